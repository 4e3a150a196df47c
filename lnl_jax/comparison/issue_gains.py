"""What training gains without the labels that look wrong, or with a robust loss."""

from collections.abc import Generator
from typing import Any

import numpy as np

from lnl_jax import label_models
from lnl_jax.comparison.catalogue import CATALOGUE
from lnl_jax.comparison.cross_validation import HeldOut, fold_rows, score_held_out
from lnl_jax.comparison.statistics import paired_gain, setting_text, standard_deviation
from lnl_jax.runner.outputs import Row

# Of these parts one tests and one validates.
PARTS = 5
TRAINED = ("cross_entropy", "generalized_cross_entropy", "ldr_kl", "aldr_kl")


def compare_trainings(
    features: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray | None,
    folds: int,
    seeds: int,
    **network: Any,
) -> Generator[Row, None, list[Row]]:
    """Trains on three fifths of the rows in several ways and judges all by another fifth.

    Ways are cross-entropy on all rows, robust losses on all rows, and cross-entropy without the
    rows that confident learning flags, by probabilities out of fold within the three fifths. The
    last fifth chooses the setting by its given labels.

    Args:
        features: float32, ``[N, D]``.
        labels: the given ones, ``[N]``; each class has at least five.
        truth: the true ones, where they are known.
        folds: at most that many, within the three fifths.
        seeds: how often the parts are drawn.
        **network: the keywords of `score_held_out`.

    Yields:
        A row per way.

    Returns:
        A dict per way, the gain over cross-entropy paired over the seeds; on the true labels where
        they are known.
    """
    parts = [[inside for _, inside in fold_rows(labels, PARTS, seed)] for seed in range(seeds)]
    tests, validations = [part[0] for part in parts], [part[1] for part in parts]
    training = [np.sort(np.concatenate(part[2:])) for part in parts]
    ways = {name: (name, training) for name in TRAINED}
    kept = _without_flagged(features, labels, training, folds, network)
    ways["cross_entropy without flagged"] = ("cross_entropy", kept)
    judges = {"given": labels} | ({} if truth is None else {"true": truth})
    table: list[Row] = []
    baseline = None
    for name, (loss, rows) in ways.items():
        held = [np.concatenate(both) for both in zip(validations, tests, strict=True)]
        found = score_held_out(
            features,
            labels,
            list(zip(rows, held, strict=True)),
            range(seeds),
            loss=CATALOGUE[loss],
            **network,
        )
        best = found.best(labels, validations)
        agreed = {
            kind: 100 * _agreement(found, best, validations, tests, judge)
            for kind, judge in judges.items()
        }
        row = {"training": name, "rows": round(np.mean([*map(len, rows)]))}
        for kind, values in agreed.items():
            row |= {
                f"agrees with {kind} labels %": values.mean(),
                f"std, {kind}": standard_deviation(values),
            }
        last = agreed[kind]
        if baseline is None:
            baseline = last
            row |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
        else:
            row |= paired_gain(last, baseline)
        row = {key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()}
        table.append(row | {"chosen": setting_text(found.settings[best])})
        yield {"method": name, "accuracy": float(last.mean() / 100)}
    return table


def _agreement(
    found: HeldOut, best: int, validations: list, tests: list, judge: np.ndarray
) -> np.ndarray:
    """Of each seed the share of the test rows of which the labels are predicted."""
    return np.array(
        [
            (values[best, len(validation) :].argmax(-1) == judge[test]).mean()
            for values, validation, test in zip(
                found.probabilities, validations, tests, strict=True
            )
        ]
    )


def _without_flagged(
    features: np.ndarray, labels: np.ndarray, training: list, folds: int, network: dict
) -> list[np.ndarray]:
    """The training rows of each seed without those that are flagged; no class loses all."""
    sides, streams = [], []
    for seed, rows in enumerate(training):
        counts = np.bincount(labels[rows])
        count = max(min(folds, counts[counts > 0].min()), 2)
        for fold, (outside, inside) in enumerate(fold_rows(labels[rows], count, seed)):
            sides.append((rows[outside], rows[inside]))
            streams.append(seed * folds + fold)
    found = score_held_out(features, labels, sides, streams, **network)
    best, at, kept = found.best(labels), 0, []
    for rows in training:
        probabilities = np.empty((len(labels), network["num_classes"]), np.float32)
        inside = 0
        while inside < len(rows):
            probabilities[found.rows[at]] = found.probabilities[at][best]
            inside += len(found.rows[at])
            at += 1
        flags = label_models.find_label_issues(probabilities[rows], labels[rows]).flags
        kept.append(rows[~flags])
    return kept
