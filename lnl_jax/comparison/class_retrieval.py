"""Texts of classes and of groups of classes find images, and images find them."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import evaluation
from lnl_jax.comparison.captioned_features import Captions
from lnl_jax.comparison.statistics import mean_and_std, paired_gain
from lnl_jax.comparison.temperatures import class_counts, correlations

PLACES = (1, 5, 10)
TO_CLASS, OF_CLASS = "image to class", "class to image"
TO_GROUP, OF_GROUP = "image to group", "group to image"
# Thirds of the classes, the largest first.
SIZES = ("many", "medium", "few")
# Weight decays of logistic regression.
DECAYS = (1e-4, 1e-3, 1e-2)
# By the key of a method and a setting, what was measured, each array with a leading axis of seeds.
Found = Mapping[tuple[str, str], Mapping[str, np.ndarray]]


def retrieval_pairs(labels: np.ndarray, texts: Captions) -> dict[str, np.ndarray]:
    """What belongs together in a test part.

    Args:
        labels: of the test images, ``[T]``.
        texts: of the data set.

    Returns:
        ``label`` and ``group`` of each image, ``[T]``; the rows of texts, ``classes`` and
        ``groups``; and, where there are groups, the images of each, ``[K, P]`` and ``[G, Q]``, with
        repetitions; the row T, which no image has, where there is none.
    """
    groups = texts.group_of[labels]
    found = {"label": np.int32(labels), "group": groups, "classes": texts.classes}
    found |= {"groups": texts.groups, "of_class": _members(labels, len(texts.classes))}
    return found | {"of_group": _members(groups, len(texts.groups))}


def _members(labels: np.ndarray, count: int) -> np.ndarray:
    rows = [np.flatnonzero(labels == number) for number in range(count)]
    most = max(map(len, rows), default=0)
    absent = np.array([len(labels)])
    return np.array([np.resize(one if len(one) else absent, most) for one in rows], np.int32)


def rank_of(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """How many wrong classes score as high as the right one, ``[T]``."""
    own = jnp.take_along_axis(scores, labels[:, None], 1)
    return (scores >= own).sum(1) - 1


def retrieval_ranks(
    images: jax.Array, texts: jax.Array, pairs: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """How many wrong ones come before the first right one, for each query.

    Args:
        images: of unit norm, of the test part, ``[T, d]``.
        texts: likewise, of all texts, ``[M, d]``.
        pairs: of `retrieval_pairs`.

    Returns:
        By `TO_CLASS` and `TO_GROUP` a rank for each image, by `OF_CLASS` and `OF_GROUP` for each
        class and group; those of groups only where there are any.
    """
    classes = evaluation.class_embeddings(texts[pairs["classes"]])
    found = {
        TO_CLASS: rank_of(evaluation.zero_shot_scores(images, classes), pairs["label"]),
        OF_CLASS: evaluation.retrieval_ranks(classes, images, pairs["of_class"]),
    }
    if len(pairs["groups"]):
        groups = texts[pairs["groups"]]
        scores = evaluation.zero_shot_scores(images, groups)
        found[TO_GROUP] = rank_of(scores, pairs["group"])
        found[OF_GROUP] = evaluation.retrieval_ranks(groups, images, pairs["of_group"])
    return found


def probe_ranks(
    x: np.ndarray,
    train_parts: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    num_classes: int,
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Logistic regression of each seed on features, its classes weighted by their sizes or alike.

    Args:
        x: ``[N, D]``.
        train_parts: ``row`` of the features and ``label``, ``[seeds, n]``.
        test: ``x`` and ``label``.
        num_classes: K.

    Returns:
        By method and weight decay the ranks `TO_CLASS`, ``[seeds, T]``.
    """

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None, None))
    def ranks(rows, labels, decay, alike):
        weights = evaluation.balanced_weights(labels, num_classes=num_classes)
        probe = evaluation.fit_linear_probe(
            jnp.asarray(x)[rows],
            labels,
            num_classes=num_classes,
            l2=decay,
            weights=jnp.where(alike, weights, 1.0),
        )
        return rank_of(evaluation.probe_scores(probe, jnp.asarray(test["x"])), test["label"])

    rows, labels = train_parts["row"], train_parts["label"]
    return {
        (name, f"l2 {decay:g}"): {TO_CLASS: np.asarray(ranks(rows, labels, decay, alike))}
        for name, alike in (("logistic regression", False), ("balanced regression", True))
        for decay in DECAYS
    }


def retrieval_table(found: Found) -> list[dict[str, Any]]:
    """A line per setting and way: recall at the first places in percent, over seeds.

    Args:
        found: with the ranks of `retrieval_ranks`, ``[seeds, queries]``.
    """
    ways = [way for way in (TO_CLASS, OF_CLASS, TO_GROUP, OF_GROUP) if way in [*found.values()][0]]
    rows = []
    for way in ways:
        for (method, setting), measured in found.items():
            row = {"way": way, "method": method, "setting": setting}
            for place in PLACES:
                recall = 100 * (measured[way] < place).mean(1)
                row |= mean_and_std(recall, f"recall@{place} %")
            rows.append(row)
    return rows


def results_table(
    found: Found, labels: np.ndarray, test_labels: np.ndarray, num_classes: int
) -> list[dict[str, Any]]:
    """A line per setting: accuracy by class size, and what temperatures say of it.

    Args:
        found: with the ranks `TO_CLASS`, and the temperatures ``first`` of images where there are
            any, ``[seeds, N]``.
        labels: of the training images, ``[seeds, N]``.
        test_labels: ``[T]``.
        num_classes: K.

    Returns:
        Dicts with the accuracy in percent on all test images and on thirds of the classes, `SIZES`;
        the gain over CLIP's loss at its best setting, paired by seed; Spearman's correlation of
        class size and mean temperature of the images, and the mean temperature.
    """
    right = {key: measured[TO_CLASS] == 0 for key, measured in found.items()}
    clip = {key: values.mean(1) for key, values in right.items() if key[0] == "clip"}
    best = 100 * max(clip.values(), key=np.mean)
    rows = []
    for key, measured in found.items():
        everywhere = 100 * right[key].mean(1)
        row = {"method": key[0], "setting": key[1]} | mean_and_std(everywhere, "all %")
        row |= {
            name: value
            for size, values in zip(
                SIZES, _by_size(right[key], labels, test_labels, num_classes), strict=True
            )
            for name, value in mean_and_std(100 * values, f"{size} %").items()
        }
        row |= paired_gain(everywhere, best)
        if "first" in measured and np.ptp(measured["first"]) > 0:
            rank = correlations(measured["first"], labels, num_classes)
            row |= mean_and_std(rank, "spearman") | {"least spearman": float(rank.min())}
        else:
            row |= dict.fromkeys(("spearman", "std of spearman", "least spearman"))
        row["temperature"] = float(measured["first"].mean()) if "first" in measured else None
        rows.append(row)
    return rows


def _by_size(right, labels, test_labels, num_classes) -> np.ndarray:
    """Accuracy on thirds of the classes by their training size, ``[3, seeds]``."""
    order = np.argsort(-class_counts(labels, num_classes), axis=1, kind="stable")
    found = []
    for third in np.array_split(order, len(SIZES), axis=1):
        own = [np.isin(test_labels, classes) for classes in third]
        found.append([hit[where].mean() for hit, where in zip(right, own, strict=True)])
    return np.array(found)
