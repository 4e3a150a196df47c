"""Handwritten digits as the studies have them: with noisy labels, and on coloured backgrounds."""

from collections.abc import Mapping

import numpy as np

from lnl_jax import data, models, noise
from lnl_jax.comparison.methods import what_is_known
from lnl_jax.data import augment
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.runner.arguments import StudyError

MODEL = models.MLP(num_classes=NUM_CLASSES, hidden=(64, 64))
NUM_COLORS = 2
BACKGROUNDS = np.float32([[0.9, 0.1, 0.1], [0.1, 0.7, 0.1]])


def noisy_digits(matrix: np.ndarray, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Training and validation part with noisy labels, test part with clean ones."""
    rng = np.random.default_rng(seed)
    rest, test = data.hold_out(data.digits(), 0.2, rng)
    noisy = noise.corrupt(rest["label"], matrix, rng)
    rest |= {"clean_label": rest["label"], "label": noisy.labels}
    training, validation = data.hold_out(rest, 0.2, rng)
    known = what_is_known(matrix, training["label"])
    return {"train": training, "validation": validation, "test": test, "known": known}


def noisy_rows(splits: data.Splits, matrix: np.ndarray, seed: int) -> dict[str, dict]:
    """As `noisy_digits`, of a set with a test part of its own."""
    rng = np.random.default_rng(seed)
    noisy = noise.corrupt(splits.train["label"], matrix, rng)
    clean = splits.train.get("clean_label", splits.train["label"])
    whole = {"x": splits.train["x"], "index": splits.train["index"]}
    whole |= {"label": noisy.labels, "clean_label": clean}
    training, validation = data.hold_out(whole, 0.2, rng)
    test = {name: splits.test[name] for name in ("x", "label")}
    known = what_is_known(matrix, training["label"])
    return {"train": training, "validation": validation, "test": test, "known": known}


def with_labels(splits: data.Splits, name: str | None) -> data.Splits:
    """The set with its labels ``label_NAME`` to train on, its own for the true ones."""
    if name is None:
        return splits
    there = [column[6:] for column in splits.train if column.startswith("label_")]
    if name not in there:
        known = f"of {', '.join(there)}" if there else "none: the set has no others"
        raise StudyError(f"labels must be {known}; got {name}.")
    given = {"label": splits.train[f"label_{name}"], "clean_label": splits.train["label"]}
    return splits._replace(train=splits.train | given, given=False)


def standardized(splits: data.Splits) -> data.Splits:
    """Images as numbers ``x``, each channel with mean 0 and deviation 1; others as they are."""
    if "image" not in splits.train:
        return splits
    mean, std = augment.channel_statistics(splits.train["image"])

    def rows(part):
        return part | {"x": (np.float32(part["image"]) / 255 - mean) / std}

    return splits._replace(train=rows(splits.train), test=rows(splits.test))


def several_noises(num_classes: int) -> dict[str, np.ndarray]:
    """Uniform (a redrawn label may be the old one) and pairflip noise, and none."""
    return {
        "clean": np.eye(num_classes),
        "uniform 30%": noise.symmetric(num_classes, 0.3, include_self=True),
        "uniform 60%": noise.symmetric(num_classes, 0.6, include_self=True),
        "pairflip 40%": noise.pairflip(num_classes, 0.4),
    }


def no_noise(num_classes: int) -> dict[str, np.ndarray]:
    """The labels stay as they were given, for those that are noisy already."""
    return {"clean": np.eye(num_classes)}


def colored_digits(aligned: float, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Training, validation and test part; in the first the colour agrees with the class."""
    rng = np.random.default_rng(seed)
    rest, test = data.hold_out(data.digits(), 0.2, rng)
    training, validation = data.hold_out(rest, 0.2, rng)
    shares = {"train": (training, aligned), "validation": (validation, 0.5), "test": (test, 0.5)}
    return {name: _color(part, share, rng) for name, (part, share) in shares.items()}


def _color(
    part: Mapping[str, np.ndarray], aligned: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """White digits on backgrounds whose colour is the class for a fraction `aligned`."""
    label = (part["label"] >= 5).astype(np.int32)
    color = np.where(rng.random(len(label)) < aligned, label, 1 - label)
    ink = part["x"].reshape(len(label), -1, 1)
    pixels = ink + (1 - ink) * BACKGROUNDS[color][:, None]
    return {
        "x": pixels.reshape(len(label), -1).astype(np.float32),
        "label": label,
        "group": NUM_COLORS * label + color.astype(np.int32),
        "index": part["index"],
    }
