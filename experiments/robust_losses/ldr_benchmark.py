"""The LDR paper's comparison of robust losses on tables of numbers, runs in lockstep."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, models, train
from lnl_jax.comparison import figures, tables
from lnl_jax.comparison.catalogue import CATALOGUE, PAPER_LOSSES, TOP_K_LOSSES
from lnl_jax.comparison.fold_runs import (
    MEASURED,
    measure,
    measure_temperatures,
    run_rows,
    width,
)
from lnl_jax.comparison.joined_runs import make_joined_trainer
from lnl_jax.comparison.methods import robust_loss
from lnl_jax.comparison.networks import (
    hidden_widths,
    initial_variables,
    tabular_in_lanes,
)
from lnl_jax.comparison.noisy_folds import RATES, all_noisy_folds, named_noises
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.table_sets import TABLE_SETS, letter, plain_name
from lnl_jax.runner.arguments import (
    Count,
    Folds,
    NotNegative,
    Positive,
    Precision,
    Repetitions,
    Whole,
    check_batch_size,
    check_names,
    refused,
    study,
)
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

# Runs per device of a CPU that fit its cache, but at least those of a data set.
RUNS_AT_ONCE = 54
_ENTRIES = CATALOGUE | TOP_K_LOSSES


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
    at_once: Whole = 0,
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
    runs are one compiled program, on as many devices as JAX sees, or `--devices`: on a CPU set
    `JAX_NUM_CPU_DEVICES` to the number of cores.

        JAX_NUM_CPU_DEVICES=2 python experiments/run.py --exp ldr_benchmark --dataset vowel \
            --data_dir DIR

    Time: on 2 CPU cores a minute for vowel, 18 minutes for letter; on an H200 nine tables with
    three draws in two and a half minutes.

    Result: on letter LDR-KL and ALDR-KL first by average rank, docs/results/ldr_letter (94320be);
    over nine tables LDR-KL first, docs/results/ldr_ranks.

    Args:
        dataset: of numbers, or your own: csv, npz, tfds; its labels are then given, not clean.
        losses: names of losses; paper stands for the paper's 15, top_k for its LDR-k with k of 2
            and 5, all for every one of the catalogue.
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
        at_once: data sets in a chunk at most, after which there is a checkpoint; 0 sets no limit.
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
        robust_loss(_ENTRIES[name], learning_rates, network=network, total_steps=total_steps)
        for name in names
    ]
    # One start and one order per fold and seed, whatever the noise.
    streams = [one.seed * folds + one.fold for one in noisy_folds]
    params = initial_variables(model, jnp.zeros((columns, 1)), streams)
    parts |= {"params": jax.tree.map(np.asarray, params), "seed": np.array(streams)}
    # Every chunk of every loss asks for them again.
    plan = data.epoch_plans(size, batch_size, streams, shuffle=shuffle, keep=epochs)
    schedule = train.staircase_schedule(total_steps)
    groups = _of_as_many_views(methods)
    results = [
        np.full((len(MEASURED), len(noisy_folds), width(g)), np.nan, np.float32) for g in groups
    ]
    done = [np.zeros((), np.int32) for _ in groups]
    # Not a stage per group: within one it would go on by this same checkpoint of a chunk.
    results, done = resume.restore((results, done))
    all_runs = len(noisy_folds) * sum(map(width, groups))
    for number, group in enumerate(groups):
        more = {
            method.name: functools.partial(measure_temperatures, method, network)
            for method in group
            if method.name in ("aldr_kl", "aldr_kl_step")
        }
        trainer, settings = make_joined_trainer(
            group,
            schedule,
            network,
            functools.partial(measure, network),
            measure_more=more,
            weight_decay=weight_decay,
        )
        values = results[number]
        chunk = _chunk_size(trainer, settings, parts, batch_size, memory, at_once, width(group))
        chunks = train.in_chunks(
            trainer,
            settings,
            parts,
            plan,
            epochs=epochs,
            chunk=chunk,
            finished=int(done[number]),
        )
        for members, found in chunks:
            for row, name in enumerate(MEASURED):
                if name in found:
                    values[row, members.start : members.stop] = found[name][:, 0]
            done[number] = np.int32(members.stop)
            rows = run_rows(source, groups, noisy_folds, results, done, epochs, splits.given)
            means = np.nan_to_num(values[1, members.start : members.stop]).mean(0)
            yield {
                "runs": len(rows),
                "chunk": chunk * width(group),
                "accuracy": float(means.max()),
                "run_steps": len(rows) * total_steps,
                "done": len(rows) / all_runs,
            }
            # Whole draws can be compared already.
            draw = len(noisy_folds) // seeds
            if members.stop // draw > members.start // draw:
                yield Artifact("runs.csv", csv_bytes(rows))
            yield Checkpoint((results, done))
    rows = run_rows(source, groups, noisy_folds, results, done, epochs, splits.given)
    yield Artifact("runs.csv", csv_bytes(rows))
    yield from tables.tables(rows)
    yield from figures.figures(rows)


def _of_as_many_views(methods: Sequence[Method]) -> list[list[Method]]:
    """The methods in groups that are given the same scores."""
    views = dict.fromkeys(method.loss_fn.views for method in methods)
    return [[m for m in methods if m.loss_fn.views == number] for number in views]


def _chunk_size(
    trainer: train.Trainer,
    settings: Any,
    parts: Any,
    batch_size: int,
    memory: float,
    at_once: int,
    runs: int,
) -> int:
    """How many data sets are trained on at once with all settings."""
    one = jax.tree.map(lambda values: values[0], (settings, parts))
    devices, free = train.mesh_at_hand().size, train.free_bytes()
    limits = [at_once] if at_once else []
    if free is None:
        free, limits = memory * 2**30, [*limits, devices * max(1, RUNS_AT_ONCE // runs)]
    else:
        free *= train.chunks.SHARE * devices
    held = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(one[1]))
    with refused():
        return train.chunk_size(
            len(parts["seed"]),
            train.run_bytes(trainer, *one, batch_size) + held,
            memory=free,
            devices=devices,
            at_most=max(devices, min(limits)) if limits else None,
        )


def _loss_names(losses: Sequence[str]) -> list[str]:
    groups = {"paper": PAPER_LOSSES, "top_k": tuple(TOP_K_LOSSES), "all": tuple(CATALOGUE)}
    check_names("losses", losses, groups | _ENTRIES)
    return list(dict.fromkeys(one for name in losses for one in groups.get(name, (name,))))
