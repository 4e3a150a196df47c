"""A small foundation model of digits, trained in place on a strange domain, and the real digits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.descent import descend
from lnl_jax import data, distill, models

NUM_CLASSES, SIDE, WIDTH = 10, 16, 64
TOWER = models.ViT(num_classes=NUM_CLASSES, width=WIDTH, depth=3, heads=4, patch_size=4)
BATCH, WRONG, NOISE = 64, 0.3, 0.25
PyTree = Any


class Digits(NamedTuple):
    """Images ``[N, 16, 16, 1]`` from 0 to 1 and labels, in three parts."""

    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]


class Foundation(NamedTuple):
    """What the public has.

    Attributes:
        tower: parameters of `TOWER`, without its head.
        words: unit embeddings of the classes' names, ``[D, K]``.
        scale: of the cosines.
    """

    tower: PyTree
    words: jax.Array
    scale: jax.Array


def enlarged_digits(seed: int) -> Digits:
    """1,097 training, 200 validation and 500 test images, with the classes in proportion."""
    from sklearn.model_selection import train_test_split

    whole = data.digits()
    small = whole["x"].reshape(-1, 8, 8, 1)
    images = np.asarray(jax.image.resize(small, (len(small), SIDE, SIDE, 1), "bilinear"))
    rows, test = train_test_split(
        np.arange(len(images)), test_size=500, stratify=whole["label"], random_state=seed
    )
    train, validation = train_test_split(
        rows, test_size=200, stratify=whole["label"][rows], random_state=seed
    )
    return Digits(
        *(
            {"image": images[part], "label": whole["label"][part]}
            for part in (train, validation, test)
        )
    )


def encode(params: PyTree, images: jax.Array) -> jax.Array:
    """Features of the tower, ``[B, D]``, not normalised."""
    return TOWER.apply({"params": params}, 2 * images - 1, method="features")


def initial_foundation(seed: int) -> Foundation:
    """Before training; `scale` and `words` too are only initial."""
    init, words = jax.random.split(jax.random.key(seed))
    images = jnp.zeros((2, SIDE, SIDE, 1))
    start = jax.jit(lambda key: TOWER.init(key, images, method="features")["params"])
    return Foundation(
        start(init), jax.random.normal(words, (WIDTH, NUM_CLASSES)) / 8, jnp.float32(10)
    )


def train_foundation(part: Mapping, seed: int, steps: int) -> Foundation:
    """Image tower against learned words, on `shifted_batches`.

    Args:
        part: real images and labels.
        seed: of initialisation and batches.
        steps: of AdamW.

    Returns:
        The model.
    """
    start = initial_foundation(seed)
    trained = {"tower": start.tower, "words": start.words, "log_scale": jnp.log(start.scale)}
    (trained, _), _ = descend(
        _loss, (trained, {}), shifted_batches(part, seed, steps), learning_rate=1e-3
    )
    return Foundation(
        trained["tower"], distill.unit(trained["words"].T).T, jnp.exp(trained["log_scale"])
    )


def shifted_batches(part: Mapping, seed: int, steps: int) -> dict[str, np.ndarray]:
    """The strange domain: half of the images inverted, strong noise, 30% wrong captions.

    A wrong caption belongs to an image for ever.

    Args:
        part: real images and labels.
        seed: of all that is random.
        steps: how many batches.

    Returns:
        `images`, ``[steps, B, H, W, 1]``, and `captions`, ``[steps, B]``.
    """
    rng = np.random.default_rng((seed, 1))
    size = len(part["label"])
    wrong = (part["label"] + rng.integers(1, NUM_CLASSES, size)) % NUM_CLASSES
    captions = np.where(rng.random(size) < WRONG, wrong, part["label"])
    rows = rng.integers(0, size, (steps, BATCH))
    images = part["image"][rows]
    inverted = rng.random((steps, BATCH, 1, 1, 1)) < 0.5
    noise = NOISE * rng.standard_normal(images.shape, np.float32)
    return {
        "images": np.where(inverted, 1 - images, images) + noise,
        "captions": captions[rows],
    }


def _loss(trained, fixed, batch, constants):
    words = distill.unit(trained["words"].T).T
    features = distill.unit(encode(trained["tower"], batch["images"]))
    logits = jnp.exp(trained["log_scale"]) * (features @ words)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["captions"])
    return losses.mean(), fixed
