"""What the parameters of CLIP are called in checkpoints, and how they become ours."""

from collections.abc import Iterator

import numpy as np

from lnl_jax.models._checkpoints import Entry, Take
from lnl_jax.models.clip import CLIP
from lnl_jax.models.clip_resnet import ModifiedResNet

Path = tuple[str, ...]

# Other things that checkpoints hold beside parameters: constants, and counters of batches.
NOT_PARAMETERS = ("position_ids", "num_batches_tracked")
CONSTANTS_OF_OPENAI = ("input_resolution", "context_length", "vocab_size")


def is_parameter(name: str) -> bool:
    """Whether a name in a checkpoint is one that has to be accounted for."""
    return name.rsplit(".", 1)[-1] not in NOT_PARAMETERS and name not in CONSTANTS_OF_OPENAI


def same(values: np.ndarray) -> np.ndarray:
    """As it is."""
    return values


def scalar(values: np.ndarray) -> np.ndarray:
    """One number, which some checkpoints give an axis."""
    return values.reshape(())


def transposed(values: np.ndarray) -> np.ndarray:
    """``[out, in]`` to ``[in, out]``."""
    return values.T


def channels_last(values: np.ndarray) -> np.ndarray:
    """``[out, in, rows, columns]`` to ``[rows, columns, in, out]``."""
    return values.transpose(2, 3, 1, 0)


def third(index: int, then: Take) -> Take:
    """One of three matrices or biases that stand below each other."""
    return lambda values: then(np.split(values, 3)[index])


def hugging_face(model: CLIP) -> Iterator[Entry]:
    """Every parameter of a `CLIPModel` of the transformers library."""
    yield "logit_scale", ("params", "logit_scale"), scalar
    image, text = ("params", "image"), ("params", "text")
    embedding = "vision_model.embeddings."
    yield (
        embedding + "patch_embedding.weight",
        inside(image, "embedding/patch/kernel"),
        channels_last,
    )
    yield embedding + "class_embedding", inside(image, "embedding/class_token"), same
    yield embedding + "position_embedding.weight", inside(image, "embedding/positions"), same
    yield from norm("vision_model.pre_layrnorm", inside(image, "norm_pre"))
    yield from hugging_face_blocks("vision_model", image, model.image.depth)
    yield from norm("vision_model.post_layernorm", inside(image, "norm_post"))
    yield "visual_projection.weight", inside(image, "projection/kernel"), transposed
    embedding = "text_model.embeddings."
    yield embedding + "token_embedding.weight", inside(text, "tokens/embedding"), same
    yield embedding + "position_embedding.weight", inside(text, "positions"), same
    yield from hugging_face_blocks("text_model", text, model.text.depth)
    yield from norm("text_model.final_layer_norm", inside(text, "norm"))
    yield "text_projection.weight", inside(text, "projection/kernel"), transposed


def hugging_face_blocks(prefix: str, tower: Path, depth: int) -> Iterator[Entry]:
    """All blocks of a tower of CLIP or SigLIP."""
    attention = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    for index in range(depth):
        layer, block = f"{prefix}.encoder.layers.{index}", inside(tower, f"blocks/block_{index}")
        yield from norm(f"{layer}.layer_norm1", inside(block, "norm1"))
        for theirs, ours in attention.items():
            yield from dense(f"{layer}.self_attn.{theirs}", inside(block, f"attention/{ours}"))
        yield from norm(f"{layer}.layer_norm2", inside(block, "norm2"))
        for name in ("fc1", "fc2"):
            yield from dense(f"{layer}.mlp.{name}", inside(block, name))


def open_clip(model: CLIP) -> Iterator[Entry]:
    """Every parameter of open_clip's and of OpenAI's own checkpoints."""
    yield "logit_scale", ("params", "logit_scale"), scalar
    text = ("params", "text")
    yield "token_embedding.weight", inside(text, "tokens/embedding"), same
    yield "positional_embedding", inside(text, "positions"), same
    yield from _open_clip_blocks("transformer", text, model.text.depth)
    yield from norm("ln_final", inside(text, "norm"))
    yield "text_projection", inside(text, "projection/kernel"), same
    if isinstance(model.image, ModifiedResNet):
        yield from _resnet(model.image)
        return
    image = ("params", "image")
    yield "visual.conv1.weight", inside(image, "embedding/patch/kernel"), channels_last
    yield "visual.class_embedding", inside(image, "embedding/class_token"), same
    yield "visual.positional_embedding", inside(image, "embedding/positions"), same
    yield from norm("visual.ln_pre", inside(image, "norm_pre"))
    yield from _open_clip_blocks("visual.transformer", image, model.image.depth)
    yield from norm("visual.ln_post", inside(image, "norm_post"))
    yield "visual.proj", inside(image, "projection/kernel"), same


def _open_clip_blocks(prefix: str, tower: Path, depth: int) -> Iterator[Entry]:
    for index in range(depth):
        layer, block = f"{prefix}.resblocks.{index}", inside(tower, f"blocks/block_{index}")
        yield from norm(f"{layer}.ln_1", inside(block, "norm1"))
        for which, name in enumerate(("query", "key", "value")):
            part = inside(block, f"attention/{name}")
            yield f"{layer}.attn.in_proj_weight", (*part, "kernel"), third(which, transposed)
            yield f"{layer}.attn.in_proj_bias", (*part, "bias"), third(which, same)
        yield from dense(f"{layer}.attn.out_proj", inside(block, "attention/out"))
        yield from norm(f"{layer}.ln_2", inside(block, "norm2"))
        yield from dense(f"{layer}.mlp.c_fc", inside(block, "fc1"))
        yield from dense(f"{layer}.mlp.c_proj", inside(block, "fc2"))


def _resnet(tower: ModifiedResNet) -> Iterator[Entry]:
    for index in (1, 2, 3):
        yield from _convolution(f"visual.conv{index}", f"conv{index}")
        yield from _batch_norm(f"visual.bn{index}", f"bn{index}")
    for stage, count in enumerate(tower.blocks, start=1):
        for block in range(count):
            theirs, ours = f"visual.layer{stage}.{block}", f"layer{stage}_{block}"
            for index in (1, 2, 3):
                yield from _convolution(f"{theirs}.conv{index}", f"{ours}/conv{index}")
                yield from _batch_norm(f"{theirs}.bn{index}", f"{ours}/bn{index}")
            if block == 0:
                yield from _convolution(f"{theirs}.downsample.0", f"{ours}/shortcut")
                yield from _batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_bn")
    pool = ("params", "image", "attention_pool")
    yield "visual.attnpool.positional_embedding", (*pool, "positions"), same
    for theirs, ours in {"q": "query", "k": "key", "v": "value", "c": "out"}.items():
        yield from dense(f"visual.attnpool.{theirs}_proj", (*pool, ours))


def inside(path: Path, names: str) -> Path:
    """A path that goes on with names between slashes."""
    return (*path, *names.split("/"))


def dense(name: str, path: Path) -> Iterator[Entry]:
    """A linear layer."""
    yield f"{name}.weight", (*path, "kernel"), transposed
    yield f"{name}.bias", (*path, "bias"), same


def norm(name: str, path: Path) -> Iterator[Entry]:
    """A scale and a shift."""
    yield f"{name}.weight", (*path, "scale"), same
    yield f"{name}.bias", (*path, "bias"), same


def _convolution(name: str, path: str) -> Iterator[Entry]:
    yield f"{name}.weight", inside(("params", "image"), f"{path}/kernel"), channels_last


def _batch_norm(name: str, path: str) -> Iterator[Entry]:
    yield from norm(name, inside(("params", "image"), path))
    yield f"{name}.running_mean", inside(("batch_stats", "image"), f"{path}/mean"), same
    yield f"{name}.running_var", inside(("batch_stats", "image"), f"{path}/var"), same
