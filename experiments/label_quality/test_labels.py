"""Does the winner change when the test labels are corrected?"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from lnl_jax.comparison.catalogue import CATALOGUE, LOSSES
from lnl_jax.comparison.corrected_tests import (
    CorrectedTest,
    corrected_test_npz,
    digits_with_wrong_tests,
)
from lnl_jax.comparison.cross_validation import score_held_out
from lnl_jax.comparison.judged_tests import (
    accuracies_by_part,
    crossing_rows,
    judge_networks,
    prevalence_figure,
    winner_rows,
)
from lnl_jax.runner import (
    Artifact,
    Count,
    Positive,
    Seed,
    Seeds,
    Share,
    StudyError,
    Whole,
    refused,
    stage,
    study,
)
from lnl_jax.runner.arguments import check_names, check_once

DIGITS, GENERATED = "digits", "generated"
# Of the training part, to choose the setting.
VALIDATION = 0.2


@study
def test_labels(
    *,
    dataset: str = DIGITS,
    corrections: str = GENERATED,
    people: str | None = None,
    noise_rate: Share = 0.1,
    train_noise_rate: Share = 0.1,
    losses: tuple[str, ...] = ("cross_entropy", "generalized_cross_entropy", "ldr_kl"),
    widths: tuple[Whole, ...] = (0, 16, 64, 256),
    epochs: Count = 60,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.01),
    seeds: Seeds = 3,
    seed: Seed = 0,
    data_dir: str | None = None,
) -> Iterator[dict[str, Any] | Artifact]:
    """Networks of several capacities and losses, scored on given and on corrected test labels.

    Test sets have wrong labels as training sets do, and a network that learns the habits of those
    who labelled is rewarded for it. Each network is judged by the labels as they were given, by the
    corrected ones, and where many people labelled each example by the shares of their labels; that
    share of wrong labels is told at which two networks change places. The accuracy on the true
    labels is bounded by what confident learning estimates of the errors in the given ones. The
    question is that of Northcutt, Athalye and Mueller, "Pervasive Label Errors in Test Sets
    Destabilize Machine Learning Benchmarks" (NeurIPS 2021), section 5.

    On digits, a share of whose labels is made the next class in training and test set alike, and on
    a set with human labels, DIR/cifar10_10k.npz, whose file DIR/label_errors.npz has votes on the
    suspected labels (cifar10_id, cifar10_given, cifar10_guess, cifar10_votes):
        python experiments/run.py --exp test_labels
        python experiments/run.py --exp test_labels --dataset cifar10_10k \
            --corrections label_errors/cifar10 --people counts10h_test --data_dir DIR

    Time: about a minute on 2 CPU cores.

    Args:
        dataset: digits, or NAME for DIR/NAME.npz with x_train, y_train, x_test and y_test.
        corrections: generated makes test labels false; or an array of the file, the right classes
            (-1 for none) or counts of people's labels, of which the most frequent is right; or
            FILE/SET for the votes SET_votes of DIR/FILE.npz on the examples SET_id of idx_test.
        people: an array of the file with counts of people's labels; none for no such judge.
        noise_rate: share of the test labels that generated makes the next class.
        train_noise_rate: of the training labels.
        losses: that networks are trained with.
        widths: of their hidden layer; 0 is a linear network.
        epochs: passes over the training part.
        batch_size: examples per step.
        learning_rates: to choose from, with each loss's own settings, on given labels.
        seeds: trainings of each network, at least 2.
        seed: of noise, splits and trainings.
        data_dir: the folder of the files.

    Yields:
        A row per network; the tables `results`, `winners` and `crossings`; the figure
        `prevalence`; the arrays `predictions`.
    """
    check_names("losses", losses, LOSSES)
    check_once("widths", widths)
    with refused():
        tests = _tests(dataset, corrections, people, data_dir, (train_noise_rate, noise_rate), seed)
    names, found = [], []
    for loss, width in itertools.product(losses, widths):
        names.append(f"{loss}, {f'width {width}' if width else 'linear'}")
        run = yield from stage(
            names[-1],
            _train,
            tests,
            loss,
            seeds,
            seed,
            hidden=(width,) if width else (),
            epochs=epochs,
            batch_size=batch_size,
            learning_rates=learning_rates,
        )
        found.append(run["probabilities"])
        agreed = float((found[-1].argmax(-1) == tests.given).mean())
        yield {"method": names[-1], "as given": agreed}
    probabilities = np.stack(found)
    table = judge_networks(names, probabilities, tests)
    yield Artifact("results", table)
    yield Artifact("winners", winner_rows(table, tests))
    if tests.wrong.any() and tests.right.any():
        prevalence = float(tests.wrong.sum() / (tests.wrong | tests.right).sum())
        parts = accuracies_by_part(probabilities, tests)
        yield Artifact("crossings", crossing_rows(names, *parts, prevalence))
        yield Artifact("prevalence", prevalence_figure(names, *parts, prevalence))
    labels = {"given": tests.given, "corrected": tests.corrected}
    yield Artifact("predictions", {"probabilities": probabilities} | labels)


def _tests(
    dataset: str,
    corrections: str,
    people: str | None,
    data_dir: str | None,
    rates: tuple[float, float],
    seed: int,
) -> CorrectedTest:
    if dataset == DIGITS:
        if corrections != GENERATED or people is not None:
            raise StudyError("corrections and people are of a file: give dataset and data_dir.")
        return digits_with_wrong_tests(rates, seed)
    if data_dir is None:
        raise StudyError(f"dataset: {dataset} is read from {dataset}.npz: give data_dir.")
    chosen = None if corrections == GENERATED else corrections
    return corrected_test_npz(
        data_dir, dataset, corrections=chosen, people=people, rates=rates, seed=seed
    )


def _train(
    tests: CorrectedTest, loss: str, seeds: int, seed: int, **network: Any
) -> dict[str, np.ndarray]:
    """Of the test examples at the best setting, ``[seeds, J, K]``; given labels choose it."""
    streams, parts, validations = range(seed, seed + seeds), [], []
    for one in streams:
        order = np.random.default_rng(one).permutation(tests.train)
        held, rest = np.split(order, [max(1, round(VALIDATION * len(order)))])
        validations.append(held)
        parts.append((rest, np.concatenate([held, tests.test])))
    found = score_held_out(
        tests.x,
        tests.label,
        parts,
        streams,
        loss=CATALOGUE[loss],
        num_classes=tests.num_classes,
        **network,
    )
    best = found.best(tests.label, validations)
    kept = [
        values[best, len(held) :]
        for values, held in zip(found.probabilities, validations, strict=True)
    ]
    return {"probabilities": np.stack(kept)}
