"""CLIP from a local file as the foundation model: nothing of it is trained, nothing downloaded."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax import Array

from lnl_jax import models
from lnl_jax.data import preprocess
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.projectors._projector import RN50_TARGETS, VIT_TARGETS

# What an adapter changes in each kind of image tower.
TARGETS = {models.VisionTower: VIT_TARGETS, models.ModifiedResNet: RN50_TARGETS}


def clip_foundation(
    path: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    templates: Sequence[str] = ("a photo of a {}.",),
    dtype: Any = jnp.float32,
) -> Foundation:
    """Loads CLIP's image tower, and its text tower's embeddings of the classes.

    Args:
        path: weights as `models.load_clip` takes them; the vocabulary lies in the same folder.
        class_names: K of them; underscores become spaces.
        templates: of the texts, each with ``{}`` for the name.
        dtype: in which the image tower computes.

    Returns:
        The model; `scale` is the one that CLIP was trained with.

    Raises:
        FileNotFoundError: if there are no weights, or no vocabulary; it says which files to fetch.
        ValueError: if there are no names, or the files or templates are not what they should be.
    """
    if not class_names:
        raise ValueError("clip needs the names of the classes, and this data set has none.")
    model, variables = models.load_clip(path)
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    tokenize = models.load_tokenizer(folder, context_length=model.text.context_length)
    names = [name.replace("_", " ") for name in class_names]
    return Foundation(
        tower={kind: of["image"] for kind, of in variables.items() if "image" in of},
        words=models.zero_shot_weights(model, variables, tokenize, names, templates=templates),
        scale=jnp.exp(variables["params"]["logit_scale"]),
        encode=clip_encoder(models.in_dtype(model.image, dtype)),
        targets=TARGETS[type(model.image)],
    )


# One function for equal towers, so that a program is compiled once.
@functools.lru_cache(maxsize=4)
def clip_encoder(tower: Any) -> Callable[..., Array]:
    """Features of images of any size, which are resized and standardised as CLIP wants them.

    Args:
        tower: a `models.VisionTower` or `models.ModifiedResNet`.

    Returns:
        ``(variables, images [B, H, W, 3] from 0 to 1, dtype)`` to ``[B, D]``, not normalised; if
        no dtype is given, in that of the tower.
    """

    def encode(variables, images, dtype=None):
        prepared = preprocess.clip_images(255 * images, size=tower.image_size)
        own = tower if dtype is None else tower.clone(dtype=dtype)
        return own.apply(variables, prepared)

    return encode
