"""All losses on noisily labelled handwritten digits, with four kinds of noise."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import jax.numpy as jnp
import numpy as np

from experiments.robust_losses import _shared
from lnl_jax import data, models, train
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.leaderboard import board_markdown, leaderboard
from lnl_jax.comparison.methods import BASELINE, METRICS, best_setting, measure, robust_loss
from lnl_jax.comparison.networks import initial_variables, tabular
from lnl_jax.comparison.outcome import without_unknown
from lnl_jax.comparison.runs import Method, make_trainer, skipped_of, stack_settings
from lnl_jax.comparison.statistics import paired_gain, setting_text
from lnl_jax.comparison.table_sets import TABLE_SETS, digits, plain_name
from lnl_jax.data.splits import stack
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    Precision,
    Seeds,
    check_batch_size,
    check_names,
    refused,
    study,
)
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# By name, (K) -> the matrices of the noises that are tried.
NOISES: dict[str, Callable] = {"several": _shared.several_noises, "none": _shared.no_noise}
# What is called so where the labels before the noise need not be right.
GIVEN = {"accuracy %": "agrees with given labels %", "memorized %": "changed labels fitted %"}


@study
def loss_leaderboard(
    *,
    dataset: Annotated[Callable, TABLE_SETS] = digits,
    noise: Annotated[Callable, NOISES] = _shared.several_noises,
    only: tuple[str, ...] = (),
    seeds: Seeds = 5,
    epochs: Count = 50,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.03, 0.01),
    weight_decay: NotNegative = 5e-3,
    precision: Precision = jnp.float32,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """Every loss of the catalogue on digits: clean, 30% and 60% uniform, 40% pairflip.

    The protocol of `ldr_digits`, for all losses and four noises: a tanh network 64-64-64-10, SGD,
    learning rate and up to three settings of the hyperparameters chosen for each noise by accuracy
    on noisy validation labels, accuracy on clean test labels after the last epoch, everything
    paired by seed. The corrections are given the true transition matrix, which no other loss knows.
    A method's four noises, seeds and settings train at once, as one compiled program.

    Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML 2023)
    compare 15 of these losses in this way on other tables of numbers:
        python experiments/run.py --exp loss_leaderboard

    Time: a quarter of an hour on 2 CPU cores.

    Result: ALDR-KL, LDR-KL and NCE with AUL lead by mean rank, cross-entropy is at place 25 of 30;
    docs/results/loss_leaderboard, made by commit 6f75179.

    Args:
        dataset: of numbers, or your own: csv, npz, tfds; its labels are then given, not clean.
        noise: several noises, or none for labels that are noisy already.
        only: the losses to compare; none compares all. Cross-entropy always is.
        seeds: how many repetitions, at least 2.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decay: added to the gradient, for all parameters.
        precision: in which the network computes: bfloat16 is for accelerators.
        data_dir: the folder of a data set other than digits.
        resume: where an interrupted run goes on: at the first method that had not finished.

    Yields:
        A row per method and epoch with the accuracy at each noise, of the settings that are best on
        validation at that time; a checkpoint per method; at the end the table `leaderboard`, also
        as Markdown, `results.csv` with a line per loss and noise, the figure `accuracies`
        and the arrays `history`, the last epoch's values per metric, noise, seed and setting.
    """
    names = _names(only)
    with refused():
        splits = dataset(data_dir)
        of_splits = functools.partial(_shared.noisy_rows, splits)
        make = _shared.noisy_digits if dataset is digits else of_splits
        noises = noise(splits.num_classes)
        parts = stack([make(matrix, one) for matrix in noises.values() for one in range(seeds)])
    noises = ["none" if splits.given and name == "clean" else name for name in noises]
    all_seeds = [*range(seeds)] * len(noises)
    size = parts["train"]["x"].shape[1]
    check_batch_size(batch_size, size)
    steps_per_epoch = -(-size // batch_size)
    total_steps = steps_per_epoch * epochs
    model = models.in_dtype(_shared.MODEL.clone(num_classes=splits.num_classes), precision)
    network = tabular(model)
    own = {"network": network, "total_steps": total_steps}
    methods = [robust_loss(LOSSES[name], learning_rates, **own) for name in names]
    params = initial_variables(model, parts["train"]["x"][0, :1], all_seeds)
    parts |= {"params": params, "seed": np.array(all_seeds)}
    schedule = train.staircase_schedule(total_steps)
    measure_run = functools.partial(measure, network)
    plan = data.epoch_plans(size, batch_size, all_seeds)
    final = resume.restore([_no_values(noises, seeds, method) for method in methods])
    done = len(resume.rows) // epochs
    examples = resume.rows[-1]["examples"] if resume.rows else 0
    for index in range(done, len(methods)):
        trainer = make_trainer(methods[index], schedule, measure_run, weight_decay=weight_decay)
        runs = train.in_lanes(trainer, stack_settings(methods[index].settings), parts)
        for epoch, (measured,), _ in train.fit_together([runs], [runs.state], plan, epochs=epochs):
            values = np.stack([np.asarray(measured[metric]) for metric in METRICS])
            final[index] = np.float32(values.reshape(final[index].shape))
            examples += measured["examples"]
            row = {"epoch": epoch, "method": methods[index].name}
            row |= _accuracies(final[index], noises) | {"examples": examples}
            yield row | skipped_of(measured)
        yield Checkpoint(final)
    results = _results(methods, final, noises)
    board = leaderboard(results, noises)
    named = [{GIVEN.get(key, key): value for key, value in row.items()} for row in results]
    yield Artifact("results.csv", csv_bytes(without_unknown(named if splits.given else results)))
    yield Artifact("leaderboard", board)
    yield Artifact("leaderboard.md", board_markdown(board).encode())
    about = f"{plain_name(dataset)}; {seeds} seeds", "given" if splits.given else "clean"
    yield Artifact("accuracies", _figure(board, results, noises, about))
    arrays = {method.name: values for method, values in zip(methods, final, strict=True)}
    yield Artifact("history", arrays)


def _names(only: Sequence[str]) -> list[str]:
    if only:
        check_names("only", only, LOSSES)
    return [name for name in LOSSES if name == BASELINE or name in (only or LOSSES)]


def _no_values(noises: Sequence[str], seeds: int, method: Method) -> np.ndarray:
    shape = (len(METRICS), len(noises), seeds, len(method.settings))
    return np.full(shape, np.nan, np.float32)


def _at_best(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The metrics of one noise at the best setting, ``[METRICS, seeds]``, and which it is."""
    best = best_setting(values)
    return values[..., best].astype(np.float64), best


def _accuracies(values: np.ndarray, noises: Sequence[str]) -> dict[str, float]:
    """The mean accuracy at each noise, and over all of them."""
    index = METRICS.index("accuracy")
    found = {
        name: float(_at_best(values[:, position])[0][index].mean())
        for position, name in enumerate(noises)
    }
    return {"accuracy": sum(found.values()) / len(found)} | found


def _results(
    methods: Sequence[Method], final: Sequence[np.ndarray], noises: Sequence[str]
) -> list[dict[str, Any]]:
    """A line per loss and noise, with the gain over cross-entropy paired by seed."""
    rows = []
    for position, name in enumerate(noises):
        baseline = None
        for method, values in zip(methods, final, strict=True):
            of, best = _at_best(values[:, position])
            accuracy = 100 * of[METRICS.index("accuracy")]
            row = {"noise": name, "loss": method.name}
            row |= {"accuracy %": accuracy.mean(), "std": accuracy.std(ddof=1)}
            if baseline is None:
                baseline = accuracy
                row |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
            else:
                row |= paired_gain(accuracy, baseline)
            row |= {"memorized %": 100 * of[METRICS.index("memorized")].mean()}
            row = {key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()}
            rows.append(row | {"chosen": setting_text(method.settings[best])})
    return rows


def _figure(
    board: Sequence[dict[str, Any]],
    results: Sequence[dict[str, Any]],
    noises: Sequence[str],
    about: tuple[str, str],
) -> "Figure":
    """A panel per noise: accuracy of every loss, mean and one deviation, best mean rank on top."""
    from matplotlib.figure import Figure

    names = [row["loss"] for row in board]
    figure = Figure(figsize=(11, 1.5 + 0.23 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(noises), sharey=True, squeeze=False)[0]
    for panel, noise_name in zip(panels, noises, strict=True):
        of = {row["loss"]: row for row in results if row["noise"] == noise_name}
        means = np.array([of[name]["accuracy %"] for name in names])
        spread = np.array([of[name]["std"] for name in names])
        panel.axvline(of[BASELINE]["accuracy %"], color="0.6", linewidth=1, linestyle="--")
        panel.errorbar(means, np.arange(len(names)), xerr=spread, fmt="o", markersize=4)
        # A loss that does not train at all must not squeeze the others together.
        low = np.quantile(means - spread, 0.15)
        panel.set_xlim(left=max(low - 2, 0), right=min((means + spread).max() + 1, 100))
        panel.set(title=noise_name, xlabel=f"{about[1]} test labels, accuracy in %")
        panel.grid(alpha=0.3)
    panels[0].set_yticks(np.arange(len(names)), names)
    panels[0].invert_yaxis()
    figure.suptitle(f"{about[0]}, mean ± std; dashed: cross-entropy; lowest cut off")
    return figure
