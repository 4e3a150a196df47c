"""Features that a pretrained tower makes of a data set's images, before studies on them."""

import numpy as np

from lnl_jax import data, models
from lnl_jax.data import preprocess
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.runner.arguments import StudyError


def digit_images(data_dir: str | None) -> data.Splits:
    """Scikit-learn's digits as images of three equal colours, a fifth of them for testing."""
    del data_dir
    whole = data.digits()
    grey = np.uint8(np.rint(255 * whole.pop("x"))).reshape(-1, 8, 8, 1)
    whole["image"] = grey.repeat(3, -1)
    parts = data.hold_out(whole, 0.2, np.random.default_rng(0))
    return data.Splits(*parts, NUM_CLASSES, tuple(map(str, range(NUM_CLASSES))))


def read_features(
    splits: data.Splits, tower: str | None, pixels: int, features: str | None
) -> np.ndarray:
    """Features of training rows before test rows.

    Args:
        splits: of features, which are taken as they are, or of images.
        tower: a file of EfficientNet-Lite0, for images.
        pixels: rows and columns that it sees.
        features: an ``.npz`` file that keeps them; None keeps nothing.

    Returns:
        ``[N + T, D]``, float32.

    Raises:
        StudyError: for images without a tower.
        ValueError: if a file does not hold what it should.
    """
    column = "x" if "x" in splits.train else "image"
    both = np.concatenate([splits.train[column], splits.test[column]])
    if column == "x":
        return both
    if tower is None:
        raise StudyError("dataset holds images, whose features take a network: give tower PATH.")
    return tower_features(both, tower, pixels=pixels, cache=features)


def tower_features(
    images: np.ndarray, tower: str, *, pixels: int = 224, cache: str | None = None
) -> np.ndarray:
    """Features of images by EfficientNet-Lite0, as `data.embed` computes and keeps them.

    Args:
        images: uint8, ``[N, H, W, 3]``.
        tower: a file as `models.load_efficientnet` takes it.
        pixels: rows and columns that the tower sees.
        cache: an ``.npz`` file that keeps the features; None keeps nothing.

    Returns:
        ``[N, 1280]``, float32.

    Raises:
        FileNotFoundError: if there is no such tower.
        ValueError: if the file is no tower, the images are too small or of another kind, or the
            cache holds features of another tower, size or data set: says what differs.
    """
    model, variables = models.load_efficientnet(tower)
    frozen = data.Tower(
        "EfficientNet-Lite0, features",
        model.clone(num_classes=None).apply,
        variables,
        preprocess.efficientnet_images,
    )
    return data.embed(frozen, images, pixels, cache=cache)
