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
    yield embedding + "patch_embedding.weight", _in(image, "embedding/patch/kernel"), channels_last
    yield embedding + "class_embedding", _in(image, "embedding/class_token"), same
    yield embedding + "position_embedding.weight", _in(image, "embedding/positions"), same
    yield from _norm("vision_model.pre_layrnorm", _in(image, "norm_pre"))
    yield from _hugging_face_blocks("vision_model", image, model.image.depth)
    yield from _norm("vision_model.post_layernorm", _in(image, "norm_post"))
    yield "visual_projection.weight", _in(image, "projection/kernel"), transposed
    embedding = "text_model.embeddings."
    yield embedding + "token_embedding.weight", _in(text, "tokens/embedding"), same
    yield embedding + "position_embedding.weight", _in(text, "positions"), same
    yield from _hugging_face_blocks("text_model", text, model.text.depth)
    yield from _norm("text_model.final_layer_norm", _in(text, "norm"))
    yield "text_projection.weight", _in(text, "projection/kernel"), transposed


def _hugging_face_blocks(prefix: str, tower: Path, depth: int) -> Iterator[Entry]:
    attention = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    for index in range(depth):
        layer, block = f"{prefix}.encoder.layers.{index}", _in(tower, f"blocks/block_{index}")
        yield from _norm(f"{layer}.layer_norm1", _in(block, "norm1"))
        for theirs, ours in attention.items():
            yield from _dense(f"{layer}.self_attn.{theirs}", _in(block, f"attention/{ours}"))
        yield from _norm(f"{layer}.layer_norm2", _in(block, "norm2"))
        for name in ("fc1", "fc2"):
            yield from _dense(f"{layer}.mlp.{name}", _in(block, name))


def open_clip(model: CLIP) -> Iterator[Entry]:
    """Every parameter of open_clip's and of OpenAI's own checkpoints."""
    yield "logit_scale", ("params", "logit_scale"), scalar
    text = ("params", "text")
    yield "token_embedding.weight", _in(text, "tokens/embedding"), same
    yield "positional_embedding", _in(text, "positions"), same
    yield from _open_clip_blocks("transformer", text, model.text.depth)
    yield from _norm("ln_final", _in(text, "norm"))
    yield "text_projection", _in(text, "projection/kernel"), same
    if isinstance(model.image, ModifiedResNet):
        yield from _resnet(model.image)
        return
    image = ("params", "image")
    yield "visual.conv1.weight", _in(image, "embedding/patch/kernel"), channels_last
    yield "visual.class_embedding", _in(image, "embedding/class_token"), same
    yield "visual.positional_embedding", _in(image, "embedding/positions"), same
    yield from _norm("visual.ln_pre", _in(image, "norm_pre"))
    yield from _open_clip_blocks("visual.transformer", image, model.image.depth)
    yield from _norm("visual.ln_post", _in(image, "norm_post"))
    yield "visual.proj", _in(image, "projection/kernel"), same


def _open_clip_blocks(prefix: str, tower: Path, depth: int) -> Iterator[Entry]:
    for index in range(depth):
        layer, block = f"{prefix}.resblocks.{index}", _in(tower, f"blocks/block_{index}")
        yield from _norm(f"{layer}.ln_1", _in(block, "norm1"))
        for which, name in enumerate(("query", "key", "value")):
            part = _in(block, f"attention/{name}")
            yield f"{layer}.attn.in_proj_weight", (*part, "kernel"), third(which, transposed)
            yield f"{layer}.attn.in_proj_bias", (*part, "bias"), third(which, same)
        yield from _dense(f"{layer}.attn.out_proj", _in(block, "attention/out"))
        yield from _norm(f"{layer}.ln_2", _in(block, "norm2"))
        yield from _dense(f"{layer}.mlp.c_fc", _in(block, "fc1"))
        yield from _dense(f"{layer}.mlp.c_proj", _in(block, "fc2"))


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
        yield from _dense(f"visual.attnpool.{theirs}_proj", (*pool, ours))


def _in(path: Path, names: str) -> Path:
    return (*path, *names.split("/"))


def _dense(name: str, path: Path) -> Iterator[Entry]:
    yield f"{name}.weight", (*path, "kernel"), transposed
    yield f"{name}.bias", (*path, "bias"), same


def _norm(name: str, path: Path) -> Iterator[Entry]:
    yield f"{name}.weight", (*path, "scale"), same
    yield f"{name}.bias", (*path, "bias"), same


def _convolution(name: str, path: str) -> Iterator[Entry]:
    yield f"{name}.weight", _in(("params", "image"), f"{path}/kernel"), channels_last


def _batch_norm(name: str, path: str) -> Iterator[Entry]:
    yield from _norm(name, _in(("params", "image"), path))
    yield f"{name}.running_mean", _in(("batch_stats", "image"), f"{path}/mean"), same
    yield f"{name}.running_var", _in(("batch_stats", "image"), f"{path}/var"), same
