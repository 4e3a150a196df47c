"""SigLIP and SigLIP 2 from files: nothing is downloaded, no parameter is left over."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax._host_arguments import check_integer
from lnl_jax.models import _clip_names as names
from lnl_jax.models._checkpoints import Entry, account, converted, read_json, read_tensors
from lnl_jax.models._positions import resized
from lnl_jax.models._shapes import (
    Shapes,
    agree,
    count_of,
    heads_of,
    image_side,
    number_of,
    of_texts,
    one_of,
    part_of,
    root_of,
    shape_of,
)
from lnl_jax.models._transformer import gelu, tanh_gelu
from lnl_jax.models.siglip import SigLIP, SigLIPTextTower
from lnl_jax.models.siglip_images import NaFlexTower, SigLIPVisionTower

PARTS = ("model.safetensors", "model.safetensors.index.json")
TO_FETCH = (
    "Nothing is downloaded. Fetch into a folder, and give its path: model.safetensors, config.json "
    "and tokenizer.json of a Hugging Face repository such as google/siglip-base-patch16-224 or "
    "google/siglip2-base-patch16-naflex."
)
POSITIONS = "vision_model.embeddings.position_embedding.weight"
ACTIVATIONS = {"gelu_pytorch_tanh": tanh_gelu, "gelu": gelu}
# What the transformers library takes where a configuration leaves it out.
DEFAULTS = {"hidden_act": "gelu_pytorch_tanh", "num_attention_heads": 12, "layer_norm_eps": 1e-6}


class LoadedSigLIP(NamedTuple):
    """A model, and what was loaded for it.

    Attributes:
        model: a `SigLIP` with towers of the sizes of the checkpoint.
        variables: `params`: the argument of ``model.apply``.
    """

    model: SigLIP
    variables: dict[str, Any]


def load_siglip(path: str | os.PathLike[str], *, image_size: int | None = None) -> LoadedSigLIP:
    """Loads SigLIP or SigLIP 2, of one resolution or NaFlex, from `safetensors` of Hugging Face.

    The sizes are those of the shapes in the file; ``config.json`` tells the heads and the
    activation. Every parameter has to be in the file and everything in the file a parameter, but
    for constants such as `position_ids`. Where patches are flat in the file, the model is that of
    NaFlex, with a `NaFlexTower`.

    Args:
        path: a folder, or a ``.safetensors`` file with its ``config.json`` beside it.
        image_size: rows and columns instead of those of the checkpoint; the positions are resized
            by cubic interpolation. None for NaFlex, whose images have any shape.

    Returns:
        The model and its variables, float32.

    Raises:
        FileNotFoundError: if there is no such file, or no configuration.
        ValueError: if the file is incomplete or of another architecture, where names that are
            missing or left over are listed; or if the size is less than a patch.

    Example:
        >>> load_siglip("no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: no weights of SigLIP at no/such/folder. Nothing is downloaded. Fetch ...

    References:
        Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023); Tschannen et al.,
        "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding,
        Localization, and Dense Features" (2025).
    """
    weights, config = _located(Path(path))
    tensors = read_tensors(weights)
    try:
        return _loaded(tensors, read_json(config), image_size)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None


def _located(path: Path) -> tuple[Path, Path]:
    found = [path] if path.is_file() else [path / part for part in PARTS if (path / part).is_file()]
    if not found:
        raise FileNotFoundError(f"no weights of SigLIP at {path}. {TO_FETCH}")
    config = found[0].with_name("config.json")
    if not config.is_file():
        raise FileNotFoundError(f"no config.json beside {found[0]}, which tells the heads.")
    return found[0], config


def _loaded(
    tensors: dict[str, np.ndarray], config: Mapping[str, Any], image_size: int | None
) -> LoadedSigLIP:
    kind = config.get("model_type", "siglip")
    if kind not in ("siglip", "siglip2"):
        raise ValueError(f"config.json is of the architecture {kind!r}; load_clip reads CLIP's.")
    tensors = {name: value for name, value in tensors.items() if names.is_parameter(name)}
    model = _model({name: value.shape for name, value in tensors.items()}, config)
    if image_size is not None:
        model, tensors = _of_size(model, tensors, image_size)
    entries = list(_entries(model))
    account(tensors, {name for name, *_ in entries})
    ids = jnp.zeros((1, model.text.context_length), jnp.int32)
    wanted = jax.eval_shape(model.init, jax.random.key(0), _an_image(model.image), ids)
    return LoadedSigLIP(model, converted(wanted, tensors, entries))


def _an_image(tower: SigLIPVisionTower | NaFlexTower) -> Any:
    if isinstance(tower, SigLIPVisionTower):
        return jnp.zeros((1, tower.image_size, tower.image_size, 3))
    patches = jnp.zeros((1, 1, tower.patch_size**2 * 3))
    return patches, jnp.ones((1, 1), bool), jnp.ones((1, 2), jnp.int32)


def _model(shapes: Shapes, config: Mapping[str, Any]) -> SigLIP:
    kernel = shapes.get("vision_model.embeddings.patch_embedding.weight", ())
    image, text = (
        _sizes(shapes, config, part, of_table)
        for part, of_table in (("vision", POSITIONS), ("text", _token_name("token")))
    )
    image["width"] = shape_of(shapes, POSITIONS, 2)[1]
    grid = root_of(shapes[POSITIONS][0])
    vision = part_of(config, "vision_config", DEFAULTS)
    if len(kernel) == 2:
        tower: Any = NaFlexTower(grid, root_of(kernel[1] // 3), **image)
    else:
        patch = shape_of(shapes, "vision_model.embeddings.patch_embedding.weight", 4)[2]
        found = {"patch_size": patch, "image_size": grid * patch}
        size = image_side(vision.get("image_size"), found)
        tower = SigLIPVisionTower(size, patch, **image)
    agree({"patch_size": vision.get("patch_size")}, {"patch_size": tower.patch_size})
    tables = of_texts(
        shape_of(shapes, _token_name("token"), 2), shape_of(shapes, _token_name("position"), 2)
    )
    return SigLIP(
        tower, SigLIPTextTower(shape_of(shapes, "text_model.head.bias", 1)[0], **text | tables)
    )


def _token_name(kind: str) -> str:
    return f"text_model.embeddings.{kind}_embedding.weight"


def _sizes(shapes: Shapes, config: Mapping[str, Any], part: str, of_table: str) -> dict[str, Any]:
    declared = part_of(config, f"{part}_config", DEFAULTS)
    found = {
        "depth": count_of(shapes, rf"{part}_model\.encoder\.layers\.(\d+)\."),
        "hidden": shape_of(shapes, f"{part}_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "width": shape_of(shapes, of_table, 2)[1],
    }
    agree(
        {
            "depth": declared.get("num_hidden_layers"),
            "hidden": declared.get("intermediate_size"),
            "width": declared.get("hidden_size"),
        },
        found,
    )
    return found | {
        "heads": heads_of(declared, "num_attention_heads", found["width"]),
        "activation": one_of(declared, "hidden_act", ACTIVATIONS, "SigLIP"),
        "epsilon": number_of(declared, "layer_norm_eps", 1e-6),
    }


def _of_size(
    model: SigLIP, tensors: dict[str, np.ndarray], size: int
) -> tuple[SigLIP, dict[str, np.ndarray]]:
    tower = model.image
    if isinstance(tower, NaFlexTower):
        raise ValueError("image_size must be None for NaFlex, whose images have any shape.")
    check_integer("image_size", size, at_least=tower.patch_size)
    positions = resized(tensors[POSITIONS], size // tower.patch_size)
    return model.clone(image=tower.clone(image_size=size)), tensors | {POSITIONS: positions}


def _entries(model: SigLIP) -> Iterator[Entry]:
    """Every parameter of a `SiglipModel` or a `Siglip2Model` of the transformers library."""
    for name in ("logit_scale", "logit_bias"):
        yield name, ("params", name), names.scalar
    image, text = ("params", "image"), ("params", "text")
    is_flat = isinstance(model.image, NaFlexTower)
    embedding, patch = (
        "vision_model.embeddings.patch_embedding",
        names.inside(image, "embedding/patch"),
    )
    take = names.transposed if is_flat else names.channels_last
    yield f"{embedding}.weight", (*patch, "kernel"), take
    yield f"{embedding}.bias", (*patch, "bias"), names.same
    yield POSITIONS, names.inside(image, "embedding/positions"), names.same
    yield from names.hugging_face_blocks("vision_model", image, model.image.depth)
    yield from names.norm("vision_model.post_layernorm", names.inside(image, "norm"))
    yield from _pool(names.inside(image, "pool"))
    yield _token_name("token"), names.inside(text, "tokens/embedding"), names.same
    yield _token_name("position"), names.inside(text, "positions"), names.same
    yield from names.hugging_face_blocks("text_model", text, model.text.depth)
    yield from names.norm("text_model.final_layer_norm", names.inside(text, "norm"))
    yield from names.dense("text_model.head", names.inside(text, "projection"))


def _pool(pool: tuple[str, ...]) -> Iterator[Entry]:
    head = "vision_model.head"
    yield f"{head}.probe", (*pool, "probe"), lambda values: values.reshape(1, -1)
    for index, name in enumerate(("query", "key", "value")):
        kernel = names.third(index, names.transposed)
        yield f"{head}.attention.in_proj_weight", (*pool, name, "kernel"), kernel
        bias = names.third(index, names.same)
        yield f"{head}.attention.in_proj_bias", (*pool, name, "bias"), bias
    yield from names.dense(f"{head}.attention.out_proj", (*pool, "out"))
    yield from names.norm(f"{head}.layernorm", (*pool, "norm"))
    for name in ("fc1", "fc2"):
        yield from names.dense(f"{head}.mlp.{name}", (*pool, name))
