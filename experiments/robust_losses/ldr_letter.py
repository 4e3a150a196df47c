"""The tabular protocol of the LDR paper on the letter data set."""

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np

from lnl_jax import models
from lnl_jax.comparison.catalogue import LOSSES, NORMALIZATIONS, SUPPLIED, Loss, Normalization
from lnl_jax.comparison.methods import measure
from lnl_jax.comparison.mislabelled import (
    add_detection,
    score_training_parts,
    temperatures_figure,
    temperatures_table,
)
from lnl_jax.comparison.networks import hidden_widths, initial_variables, tabular
from lnl_jax.comparison.noisy_folds import noisy_folds, transition_matrix
from lnl_jax.comparison.outcome import (
    COLUMNS,
    COLUMNS_GIVEN,
    PANELS,
    PANELS_GIVEN,
    curves_figure,
    results_table,
)
from lnl_jax.comparison.protocol import Protocol, make_methods
from lnl_jax.comparison.search import search_in_lanes
from lnl_jax.comparison.table_sets import TABLE_SETS, letter, plain_name
from lnl_jax.runner.arguments import (
    Count,
    Folds,
    NotNegative,
    Positive,
    PositiveShare,
    Precision,
    Repetitions,
    Share,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume


def uniform(num_classes: int, rate: float, source: str) -> np.ndarray:
    """A fraction of the labels is drawn again over all classes."""
    return transition_matrix(source, "uniform", rate, num_classes)


def class_dependent(num_classes: int, rate: float, source: str) -> np.ndarray:
    """A fraction of the labels is swapped with a class that is alike if known, else the next."""
    return transition_matrix(source, "class_dependent", rate, num_classes)


def none(num_classes: int, rate: float, source: str) -> np.ndarray:
    """The labels stay as they were given, for those that are noisy already."""
    del rate, source
    return np.eye(num_classes)


NOISES: dict[str, Callable] = {"uniform": uniform, "class_dependent": class_dependent}
NOISES |= {"none": none}


@study
def ldr_letter(
    *,
    dataset: Annotated[Callable, TABLE_SETS] = letter,
    loss: Annotated[Loss | None, LOSSES, SUPPLIED] = None,
    normalize: Annotated[Normalization | None, NORMALIZATIONS] = None,
    noise: Annotated[Callable, NOISES] = uniform,
    noise_rate: Share = 0.6,
    folds: Folds = 5,
    seeds: Repetitions = 1,
    epochs: Count = 100,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.01, 0.001),
    temperatures: tuple[Positive, ...] = (0.1, 1.0, 10.0),
    qs: tuple[PositiveShare, ...] = (0.05, 0.7, 0.95),
    margin: NotNegative = 0.1,
    weight_decay: NotNegative = 5e-3,
    precision: Precision = jnp.float32,
    shuffle: bool = True,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """LDR-KL, ALDR-KL, GCE and cross-entropy on letters with noisy labels: the paper's protocol.

    Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML 2023),
    the tables of tabular data: 20,000 rows of 16 numbers, 2,000 of them for testing; labels of the
    rest are corrupted and cut into five contiguous folds, each of which validates once. A tanh
    network 16-16-16-26 is trained by SGD with momentum 0.9 on batches of 64, the learning rate
    falling tenfold at a half and at three quarters. Learning rate and hyperparameter are those with
    the best mean accuracy on noisy validation labels; reported is the accuracy on clean test labels
    after the last epoch, mean and deviation over the folds. All folds and settings of a loss train
    at once. The official code never shuffles: `--shuffle false`.

    With DIR/letter.npz, or without --data_dir from OpenML:
        python experiments/run.py --exp ldr_letter --data_dir DIR

    Time: ten to fifteen minutes on 2 CPU cores.

    Result: cross-entropy 51.2%, GCE 45.6, LDR-KL 77.3, ALDR-KL 68.6;
    docs/results/ldr_letter_uniform, made by commit 3961fed.

    Args:
        dataset: of numbers, or your own: csv, npz, tfds; its labels are then given, not clean.
        loss: compares this one with cross-entropy; none compares cross-entropy, GCE, LDR-KL and
            ALDR-KL.
        normalize: what the logits go through before the loss, except for cross-entropy; default
            means softplus_mean for ldr_kl and l1_mean for aldr_kl, as in the official code, and
            nothing for other losses; none means the scores as they are.
        noise: which labels become false.
        noise_rate: fraction of the labels that are drawn again or swapped, from 0 to 1.
        folds: parts of the training set, at least 2.
        seeds: how often the labels are corrupted anew, with all folds each time.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        temperatures: to choose from, for ldr_kl and aldr_kl.
        qs: to choose from, for generalized_cross_entropy.
        margin: of ldr_kl and aldr_kl, unless it is set on the loss.
        weight_decay: added to the gradient, for all parameters.
        precision: in which the network computes: bfloat16 is for accelerators.
        shuffle: whether the order changes from epoch to epoch.
        data_dir: a folder with letter.npz; none fetches the set from OpenML.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best on validation at that time; a
        checkpoint per epoch; at the end the tables `results` and `temperatures`, the figures
        `curves` and `temperature_histogram` and the arrays `history`, a value per metric, epoch,
        fold and setting.
    """
    protocol = Protocol(epochs, batch_size, learning_rates, weight_decay, temperatures, qs, margin)
    with refused():
        splits = dataset(data_dir)
    source, test, given = plain_name(dataset), splits.test, splits.given
    matrix = noise(splits.num_classes, noise_rate, source)
    data_sets = [
        fold
        for seed in range(seeds)
        for fold in noisy_folds(splits.train, test, matrix, folds, seed)
    ]
    training = data_sets[0]["train"]
    hidden = hidden_widths(test["x"].shape[1], splits.num_classes)
    model = models.MLP(num_classes=splits.num_classes, hidden=hidden, dtype=precision)
    network = tabular(model)
    methods = make_methods(loss, normalize, network, protocol, len(training["label"]))
    outcome = yield from search_in_lanes(
        methods,
        initial_variables(model, training["x"][:1], range(len(data_sets))),
        data_sets,
        functools.partial(measure, network),
        epochs=epochs,
        batch_size=batch_size,
        weight_decay=weight_decay,
        shuffle=shuffle,
        resume=resume,
    )
    scored = score_training_parts(outcome, network, data_sets)
    false = [each["train"]["label"] != each["train"]["clean_label"] for each in data_sets]
    columns, panels = (COLUMNS_GIVEN, PANELS_GIVEN) if given else (COLUMNS, PANELS)
    yield Artifact("results", add_detection(results_table(outcome, columns), scored, false))
    what = "labels as they are" if noise is none else f"{noise_rate:.0%} {noise.__name__} noise"
    title = f"{source}, {what}; {len(data_sets)} folds, mean ± std"
    yield Artifact("curves", curves_figure(outcome, title, panels))
    if histogram := temperatures_figure(scored, false, given=given):
        yield Artifact("temperatures", temperatures_table(scored, false, given=given))
        yield Artifact("temperature_histogram", histogram)
    yield Artifact("history", outcome.arrays)
