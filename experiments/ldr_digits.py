"""LDR-KL against cross-entropy on noisily labelled handwritten digits."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from experiments.choices import (
    HYPERPARAMETERS,
    LOSSES,
    NORMALIZATIONS,
    OWN_NORMALIZATIONS,
    Loss,
    Normalization,
    unnormalized,
)
from experiments.lockstep import (
    Method,
    curves,
    describe,
    epoch_plans,
    initial_params,
    make_study,
    paired_gain,
    product,
    search,
    staircase,
)
from experiments.noisy_labels import (
    BASELINE,
    METRICS,
    MODEL,
    best_setting,
    check_choice,
    check_protocol,
    measure,
    name_of,
    noisy_digits,
    robust_loss,
    stack,
)
from experiments.outputs import Artifact, Checkpoint, Resume
from lnl_jax import noise
from lnl_jax.data.digits import NUM_CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The losses to which `temperatures` and `margin` belong, and all that are compared by default.
ADAPTED = ("ldr_kl", "aldr_kl")
COMPARED = ("generalized_cross_entropy", *ADAPTED)


def ldr_digits(
    *,
    loss: Annotated[Loss | None, LOSSES] = None,
    normalize: Annotated[Normalization | None, NORMALIZATIONS] = None,
    noise_rate: float = 0.6,
    seeds: int = 5,
    epochs: int = 50,
    batch_size: int = 64,
    learning_rates: tuple[float, ...] = (0.1, 0.03, 0.01),
    temperatures: tuple[float, ...] = (0.1, 1.0, 10.0),
    qs: tuple[float, ...] = (0.05, 0.7, 0.95),
    margin: float = 0.1,
    weight_decay: float = 5e-3,
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

    About a minute on 2 CPU cores; the results are in the README:
        python experiments/run.py --exp ldr_digits

    Args:
        loss: compares this one with cross-entropy; none compares cross-entropy, GCE, LDR-KL and
            ALDR-KL.
        normalize: what the logits go through before the loss, except for cross-entropy; none means
            softplus_mean for ldr_kl and l1_mean for aldr_kl, as in the official code.
        noise_rate: fraction of the labels that are drawn again, from 0 to 1.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        temperatures: to choose from, for ldr_kl and aldr_kl.
        qs: to choose from, for generalized_cross_entropy.
        margin: of ldr_kl and aldr_kl, unless it is set on the loss.
        weight_decay: added to the gradient, for all parameters.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best on validation at that time; a
        checkpoint per epoch; at the end the table `results`, the figure `curves` and the arrays
        `history`, a value per metric, epoch, seed and setting.
    """
    if not 0 <= noise_rate <= 1:
        raise ValueError(f"noise_rate must be from 0 to 1, got {noise_rate}.")
    check_protocol(
        seeds=seeds,
        epochs=epochs,
        batch_size=batch_size,
        weight_decay=weight_decay,
        learning_rates=learning_rates,
    )
    check_choice("temperatures", temperatures)
    check_choice("qs", qs)
    grids = HYPERPARAMETERS | {name: product(temperature=temperatures) for name in ADAPTED}
    grids |= {"generalized_cross_entropy": product(q=qs)}
    matrix = noise.symmetric(NUM_CLASSES, noise_rate, include_self=True)
    parts = stack([noisy_digits(matrix, seed) for seed in range(seeds)])
    size = parts["train"]["x"].shape[1]
    steps_per_epoch = -(-size // batch_size)
    total_steps = steps_per_epoch * epochs
    methods = [
        robust_loss(
            function,
            normalization,
            grids.get(name, []),
            learning_rates,
            total_steps=total_steps,
            **({"margin": margin} if name in ADAPTED else {}),
        )
        for name, function, normalization in _compared(loss, normalize)
    ]
    params = initial_params(MODEL, parts["train"]["x"], range(seeds))
    studies = [
        make_study(
            method,
            params,
            parts,
            range(seeds),
            schedule=functools.partial(staircase, total_steps=total_steps),
            weight_decay=weight_decay,
            measure=measure,
        )
        for method in methods
    ]
    history = yield from search(
        methods,
        studies,
        functools.partial(epoch_plans, size, batch_size, range(seeds)),
        METRICS,
        best_setting,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        resume=resume,
    )
    yield Artifact("results", _results(methods, history))
    yield Artifact("curves", _curves(methods, history, noise_rate))
    arrays = {method.name: values for method, values in zip(methods, history, strict=True)}
    yield Artifact("history", arrays)


def noise_rates() -> Iterator[dict[str, Any]]:
    """From clean labels to 90% of them drawn again."""
    for noise_rate in (0.0, 0.3, 0.6, 0.9):
        yield {"noise_rate": noise_rate}


def _compared(
    loss: Loss | None, normalize: Normalization | None
) -> list[tuple[str, Loss, Normalization]]:
    """Cross-entropy, always, and what it is compared with: names, losses, normalisations."""
    functions = {name: LOSSES[name] for name in COMPARED} if loss is None else {name_of(loss): loss}
    return [(BASELINE, LOSSES[BASELINE], unnormalized)] + [
        (name, function, normalize or OWN_NORMALIZATIONS.get(name, unnormalized))
        for name, function in functions.items()
        if name != BASELINE
    ]


def _results(methods: list[Method], history: list[np.ndarray]) -> list[dict[str, Any]]:
    """A line per method: the chosen setting, percentages, and the paired gain over the first."""
    rows = []
    for method, values in zip(methods, history, strict=True):
        last = values[:, -1]
        best = best_setting(last)
        of = {name: last[index, :, best] for index, name in enumerate(METRICS)}
        accuracy = 100 * of["accuracy"].astype(np.float64)
        row = {"method": method.name}
        row |= {"accuracy %": accuracy.mean(), "std": accuracy.std(ddof=1)}
        if not rows:
            baseline = accuracy
            row |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
        else:
            row |= paired_gain(accuracy, baseline)
        row |= {"nll": of["nll"].mean(), "memorized %": 100 * of["memorized"].mean()}
        row = {key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()}
        rows.append(row | {"chosen": describe(method.settings[best])})
    return rows


def _curves(methods: list[Method], history: list[np.ndarray], noise_rate: float) -> "Figure":
    titles = {"accuracy": "clean test accuracy", "memorized": "false labels memorised"}
    figure = curves(methods, history, METRICS, best_setting, titles)
    seeds = history[0].shape[2]
    figure.suptitle(f"digits, {noise_rate:.0%} of labels redrawn; {seeds} seeds, mean ± std")
    return figure
