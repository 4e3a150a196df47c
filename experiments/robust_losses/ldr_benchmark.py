"""The LDR paper's comparison of robust losses on tables of numbers, runs in lockstep."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, metrics, models, train
from lnl_jax.comparison import figures, tables
from lnl_jax.comparison.catalogue import CATALOGUE, PAPER_LOSSES
from lnl_jax.comparison.conditions import as_given
from lnl_jax.comparison.methods import adapted_temperatures, robust_loss
from lnl_jax.comparison.networks import (
    Network,
    hidden_widths,
    initial_variables,
    tabular_in_lanes,
)
from lnl_jax.comparison.noisy_folds import RATES, NoisyFold, all_noisy_folds, named_noises
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings
from lnl_jax.comparison.statistics import setting_text
from lnl_jax.comparison.table_sets import TABLE_SETS, letter, plain_name
from lnl_jax.runner.arguments import (
    Count,
    Folds,
    NotNegative,
    Positive,
    Precision,
    Repetitions,
    check_batch_size,
    check_names,
    refused,
    study,
)
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

# What is measured of a run, in the order of the arrays of results.
MEASURED = ("validation_accuracy", *(f"top_{k}" for k in range(1, 6)), "memorized")
MEASURED += ("temperature_clean", "temperature_mislabelled")
# Runs per device that fit its cache: 36 to 72 of them take the same time each, more take longer.
# With nine settings it splits the 35 data sets of the paper over two devices with one place empty.
RUNS_AT_ONCE = 54


@study
def ldr_benchmark(
    *,
    dataset: Annotated[Callable, TABLE_SETS] = letter,
    losses: tuple[str, ...] = ("paper",),
    noises: tuple[str, ...] = ("clean", "uniform", "class_dependent"),
    folds: Folds = 5,
    seeds: Repetitions = 1,
    epochs: Count = 100,
    batch_size: Count = 64,
    learning_rates: tuple[Positive, ...] = (0.1, 0.01, 0.001),
    weight_decay: NotNegative = 5e-3,
    precision: Precision = jnp.float32,
    shuffle: bool = True,
    memory: Positive = 2.0,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """The robust losses of the LDR paper on a table of numbers: clean and six noises, five folds.

    The protocol of Zhu et al., "Label Distributionally Robust Losses for Multi-class
    Classification" (ICML 2023), as in `ldr_letter`, for 15 losses with 39 settings, three learning
    rates, five contiguous folds and seven noises: uniform 30%, 60%, 90%, class-dependent 10%, 30%,
    50%, and clean, 4,095 runs. Setting and learning rate are those with the best mean accuracy on
    noisy validation labels; reported is top-1 to top-5 accuracy on clean test labels. ALDR-KL is
    the paper's Algorithm 1, with a temperature per training example that is part of a run;
    truncated GCE is its closed form, where the official code prunes examples every ten epochs. All
    runs of a loss are one compiled program, on as many devices as JAX sees: on a CPU set
    `JAX_NUM_CPU_DEVICES` to the number of cores.

        JAX_NUM_CPU_DEVICES=2 python experiments/run.py --exp ldr_benchmark --dataset vowel \
            --data_dir DIR

    Time: on 2 CPU cores a minute for vowel, 18 minutes for letter.

    Result: on letter LDR-KL and ALDR-KL first by average rank; docs/results/ldr_letter (94320be).

    Args:
        dataset: of numbers, or your own: csv, npz, tfds; its labels are then given, not clean.
        losses: names of losses; paper stands for the paper's 15, all for every one that there is.
        noises: clean (for labels that are given: none), uniform, class_dependent.
        folds: parts of the training set, at least 2.
        seeds: how often the labels are corrupted anew, with all folds each time.
        epochs: passes over the training set.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decay: added to the gradient, for all parameters.
        precision: in which the network computes: bfloat16 is for accelerators.
        shuffle: whether the order changes from epoch to epoch; the official code never shuffles.
        memory: GiB that the runs of a chunk may take on a CPU; accelerators are filled.
        data_dir: a folder with the data set as npz; none fetches it from OpenML.
        resume: where an interrupted run goes on: at the first chunk that had not finished.

    Yields:
        A row and a checkpoint per chunk; after each loss `runs.csv`, with a line per run so far;
        at the end the tables and figures of `lnl_jax.comparison`.
    """
    check_names("noises", noises, RATES)
    names = _loss_names(losses)
    with refused():
        splits = dataset(data_dir)
    source, noises = plain_name(dataset), named_noises(noises, splits.given)
    noisy_folds, parts = all_noisy_folds(source, splits.train, splits.test, noises, folds, seeds)
    size, columns = parts["train"]["x"].shape[1:]
    check_batch_size(batch_size, size)
    num_classes = parts["known"]["matrix"].shape[-1]
    model = models.LaneMLP(num_classes, hidden_widths(columns, num_classes), dtype=precision)
    network, total_steps = tabular_in_lanes(model), -(-size // batch_size) * epochs
    methods = [
        robust_loss(
            CATALOGUE[name].function, learning_rates, network=network, total_steps=total_steps
        )
        for name in names
    ]
    # One start and one order per fold and seed, whatever the noise.
    streams = [one.seed * folds + one.fold for one in noisy_folds]
    params = initial_variables(model, jnp.zeros((columns, 1)), streams)
    parts |= {"params": jax.tree.map(np.asarray, params), "seed": np.array(streams)}
    # Every chunk of every loss asks for them again.
    plan = data.epoch_plans(size, batch_size, streams, shuffle=shuffle, keep=epochs)
    schedule = train.staircase_schedule(total_steps)
    results = {
        m.name: np.full((len(MEASURED), len(noisy_folds), len(m.settings)), np.nan, np.float32)
        for m in methods
    }
    done = {m.name: np.zeros((), np.int32) for m in methods}
    # Not a stage per loss: within one it would go on by this same checkpoint of a chunk.
    results, done = resume.restore((results, done))
    all_runs = len(noisy_folds) * sum(len(method.settings) for method in methods)
    for method in methods:
        measure = functools.partial(_measure, method, network)
        trainer = make_trainer(method, schedule, measure, weight_decay=weight_decay)
        settings, values = stack_settings(method.settings), results[method.name]
        chunk = _chunk_size(trainer, settings, parts, batch_size, memory)
        chunks = train.in_chunks(
            trainer,
            settings,
            parts,
            plan,
            epochs=epochs,
            chunk=chunk,
            finished=int(done[method.name]),
        )
        for members, found in chunks:
            for row, name in enumerate(MEASURED):
                if name in found:
                    values[row, members.start : members.stop] = found[name]
            done[method.name] = np.int32(members.stop)
            rows = _runs(source, methods, noisy_folds, results, done, epochs, splits.given)
            means = np.nan_to_num(values[1, members.start : members.stop]).mean(0)
            row = {"method": method.name, "runs": len(rows), "chunk": chunk * len(method.settings)}
            yield row | {
                "accuracy": float(means.max()),
                "run_steps": len(rows) * total_steps,
                "done": len(rows) / all_runs,
            }
            if members.stop == len(noisy_folds):
                yield Artifact("runs.csv", csv_bytes(rows))
            yield Checkpoint((results, done))
    rows = _runs(source, methods, noisy_folds, results, done, epochs, splits.given)
    yield Artifact("runs.csv", csv_bytes(rows))
    yield from tables.tables(rows)
    yield from figures.figures(rows)


def _chunk_size(
    trainer: train.Trainer, settings: Any, parts: Any, batch_size: int, memory: float
) -> int:
    """How many data sets are trained on at once with all settings."""
    one = jax.tree.map(lambda values: values[0], (settings, parts))
    devices, width = jax.local_device_count(), len(settings["learning_rate"])
    with refused():
        fitting = train.data_sets_that_fit(trainer, settings, parts, batch_size)
        return fitting or train.chunk_size(
            len(parts["seed"]),
            train.run_bytes(trainer, *one, batch_size) * width,
            memory=memory * 2**30,
            devices=devices,
            at_most=devices * max(1, RUNS_AT_ONCE // width),
        )


def _loss_names(losses: Sequence[str]) -> list[str]:
    groups = {"paper": PAPER_LOSSES, "all": tuple(CATALOGUE)}
    check_names("losses", losses, groups | CATALOGUE)
    return list(dict.fromkeys(one for name in losses for one in groups.get(name, (name,))))


def _measure(method: Method, network: Network, setting, part, state) -> dict[str, jax.Array]:
    """`MEASURED` of one run; the temperatures only of the two forms of ALDR-KL."""
    training, held, test = part["train"], part["validation"], part["test"]
    _, stats = state.extra
    on_training, on_held, on_test = (
        network.scores(state.params, stats, part["known"], own) for own in (training, held, test)
    )
    false = training["label"] != training["clean_label"]
    within = functools.partial(metrics.top_k_accuracy, on_test, test["label"])
    found = {f"top_{k}": within(min(k, network.num_classes)).value for k in range(1, 6)}
    found["validation_accuracy"] = metrics.accuracy(on_held, held["label"]).value
    found["memorized"] = metrics.memorization(
        on_training, training["label"], training["clean_label"]
    ).value
    adapted = None
    if method.name == "aldr_kl_step":
        adapted = state.tables.values
    elif method.name == "aldr_kl":
        adapted = adapted_temperatures(method, setting, on_training, training["label"])
    if adapted is not None:
        found["temperature_clean"] = jnp.mean(adapted, where=~false)
        found["temperature_mislabelled"] = jnp.mean(adapted, where=false)
    # Scores that are not finite still have a largest one: a run that diverged is NaN throughout.
    finite = jnp.isfinite(on_training).all() & jnp.isfinite(on_test).all()
    return {name: jnp.where(finite, value, jnp.nan) for name, value in found.items()}


def _cell(name: str, value: float) -> float | str:
    """A temperature that a loss does not have is empty; an accuracy of NaN is one that diverged."""
    return "" if name.startswith("temperature") and np.isnan(value) else value


def _runs(
    dataset: str,
    methods: Sequence[Method],
    noisy_folds: Sequence[NoisyFold],
    results: Mapping[str, np.ndarray],
    done: Mapping[str, np.ndarray],
    epochs: int,
    given: bool,
) -> list[dict[str, Any]]:
    """A row for each run so far."""
    rows = []
    for method in methods:
        for at, fold in enumerate(noisy_folds[: int(done[method.name])]):
            for index, setting in enumerate(method.settings):
                searched = {k: v for k, v in setting.items() if k != "learning_rate"}
                row = {"dataset": dataset, "noise": fold.noise, "rate": fold.rate}
                row |= {"loss": method.name, "setting": setting_text(searched)}
                row |= {"learning_rate": setting["learning_rate"]}
                row |= {"fold": fold.fold, "seed": fold.seed, "epochs": epochs}
                values = zip(MEASURED, results[method.name][:, at, index], strict=True)
                rows.append(row | {name: _cell(name, float(value)) for name, value in values})
    return as_given(rows) if given else rows
