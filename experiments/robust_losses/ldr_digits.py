"""LDR-KL against cross-entropy on noisily labelled handwritten digits."""

import functools
from collections.abc import Iterator
from typing import Annotated, Any

import jax.numpy as jnp

from experiments.robust_losses._shared import MODEL, noisy_digits
from lnl_jax import models, noise
from lnl_jax.comparison.catalogue import LOSSES, NORMALIZATIONS, SUPPLIED, Loss, Normalization
from lnl_jax.comparison.methods import measure
from lnl_jax.comparison.networks import initial_variables, tabular
from lnl_jax.comparison.outcome import curves_figure, results_table
from lnl_jax.comparison.protocol import Protocol, make_methods
from lnl_jax.comparison.search import search_in_lanes
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Precision,
    Seeds,
    Share,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume


@study
def ldr_digits(
    *,
    loss: Annotated[Loss | None, LOSSES, SUPPLIED] = None,
    normalize: Annotated[Normalization | None, NORMALIZATIONS] = None,
    noise_rate: Share = 0.6,
    seeds: Seeds = 5,
    epochs: Count = 50,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.03, 0.01),
    temperatures: tuple[Positive, ...] = (0.1, 1.0, 10.0),
    qs: tuple[PositiveShare, ...] = (0.05, 0.7, 0.95),
    margin: NotNegative = 0.1,
    weight_decay: NotNegative = 5e-3,
    precision: Precision = jnp.float32,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """LDR-KL, ALDR-KL, GCE and cross-entropy on real digits with 60% symmetric label noise.

    The tabular protocol of Zhu et al., "Label Distributionally Robust Losses for Multi-class
    Classification" (ICML 2023), on scikit-learn's embedded handwritten digits. A fraction
    `noise_rate` of the training and validation labels is drawn again over all ten classes. A tanh
    network 64-64-64-10 is trained by SGD with momentum 0.9; the learning rate falls tenfold at a
    half and at three quarters. Learning rate and hyperparameter are those with the best mean
    accuracy on noisy validation labels; reported is the accuracy on clean test labels after the
    last epoch. Each seed has a split, noise, initialisation and order of its own, which all losses
    share, so that differences are paired. All seeds and settings of a loss train at once.

        python experiments/run.py --exp ldr_digits

    Time: about a minute on 2 CPU cores.

    Result: cross-entropy 90.1%, GCE 92.6, LDR-KL 93.0, ALDR-KL 94.2; docs/results/ldr_digits, made
    by commit 5b6a7a9.

    Args:
        loss: compares this one with cross-entropy; none compares cross-entropy, GCE, LDR-KL and
            ALDR-KL.
        normalize: what the logits go through before the loss, except for cross-entropy; default
            means softplus_mean for ldr_kl and l1_mean for aldr_kl, as in the official code, and
            nothing for other losses; none means the scores as they are.
        noise_rate: fraction of the labels that are drawn again, from 0 to 1.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        temperatures: to choose from, for ldr_kl and aldr_kl.
        qs: to choose from, for generalized_cross_entropy.
        margin: of ldr_kl and aldr_kl, unless it is set on the loss.
        weight_decay: added to the gradient, for all parameters.
        precision: in which the network computes: bfloat16 is for accelerators.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best on validation at that time; a
        checkpoint per epoch; at the end the table `results`, the figure `curves` and the arrays
        `history`, a value per metric, epoch, seed and setting.
    """
    protocol = Protocol(epochs, batch_size, learning_rates, weight_decay, temperatures, qs, margin)
    matrix = noise.symmetric(NUM_CLASSES, noise_rate, include_self=True)
    data_sets = [noisy_digits(matrix, seed) for seed in range(seeds)]
    training = data_sets[0]["train"]
    model = models.in_dtype(MODEL, precision)
    network = tabular(model)
    methods = make_methods(loss, normalize, network, protocol, len(training["label"]))
    outcome = yield from search_in_lanes(
        methods,
        initial_variables(model, training["x"][:1], range(seeds)),
        data_sets,
        functools.partial(measure, network),
        epochs=epochs,
        batch_size=batch_size,
        weight_decay=weight_decay,
        resume=resume,
    )
    title = f"digits, {noise_rate:.0%} of labels redrawn; {seeds} seeds, mean ± std"
    yield Artifact("results", results_table(outcome))
    yield Artifact("curves", curves_figure(outcome, title))
    yield Artifact("history", outcome.arrays)


def noise_rates() -> Iterator[dict[str, Any]]:
    """From clean labels to 90% of them drawn again."""
    for noise_rate in (0.0, 0.3, 0.6, 0.9):
        yield {"noise_rate": noise_rate}
