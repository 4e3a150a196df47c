"""(d) The comparison of losses on letter: rates of its runs in lockstep, and the whole table."""

import functools
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from accelerator_sections.bench import Bench, reason
from accelerator_sections.compilation_cache import cached_in
from accelerator_sections.measuring import compiled_together
from lnl_jax import data, models, train
from lnl_jax.comparison.catalogue import CATALOGUE, PAPER_LOSSES
from lnl_jax.comparison.methods import measure, robust_loss
from lnl_jax.comparison.networks import (
    hidden_widths,
    initial_variables,
    tabular,
    tabular_in_lanes,
)
from lnl_jax.comparison.noisy_folds import all_noisy_folds
from lnl_jax.comparison.runs import make_trainer, stack_settings
from lnl_jax.comparison.table_sets import letter

HELD_AGAINST = (
    "no roof: so small a network is bound by how many kernels a step starts; the seconds of a step "
    "of all runs of a loss are given beside the dispatch of (a)"
)
ROWS, TEST_ROWS, COLUMNS, CLASSES = 15_000, 2_000, 16, 26
BATCH, EPOCHS, FOLDS = 64, 100, 5
RATES = (0.1, 0.01, 0.001)
# The paper's: 15 losses with 39 settings, three learning rates, seven noises, five folds.
ALL_RUNS = 4095
# The whole table is made where it should take less.
WHOLE_TABLE_SECONDS = 120
# Of a step with all its runs; more of a loss at once than the study takes on a CPU.
RUNS_AT_ONCE_ON_CPU = 54
TINY_EPOCHS = 20
TINY_LOSSES = ("cross_entropy", "ldr_kl", "aldr_kl_step")


def run(bench: Bench) -> None:
    """Rates of every loss; then, where there is time, the table."""
    # What the rates compile the table needs again, after more programs than are kept.
    with tempfile.TemporaryDirectory(prefix="letter-cache-") as folder, cached_in(folder):
        table(bench)


def table(bench: Bench) -> None:
    """All of the section."""
    epochs = TINY_EPOCHS if bench.tiny else EPOCHS
    names = TINY_LOSSES if bench.tiny else PAPER_LOSSES
    parts, streams, source = data_sets(bench)
    size = parts["train"]["x"].shape[1]
    plan = data.epoch_plans(size, BATCH, streams, keep=epochs)
    steps = len(plan(0)["mask"])
    bench.note(source=source, training_rows=size, steps_per_run=steps * epochs)
    layout = faster_layout(bench, parts, streams, plan, steps, epochs)
    jobs = {name: problem(name, layout, parts, streams, steps * epochs) for name in names}
    warm_up(jobs, plan, steps, epochs)
    estimate, rates = 0.0, {}
    for name, job in jobs.items():
        if not bench.has_time(3, f"rate of {name}", borrows=True):
            continue
        try:
            of_step, width = rate(job, plan, steps, epochs)
        except Exception as error:  # noqa: BLE001
            bench.row(loss=name, why=reason(error))
            continue
        runs = len(streams) * width
        chunks = -(-len(streams) // job["chunk"])
        seconds = chunks * of_step * steps * epochs
        rates[name], estimate = runs / seconds * steps * epochs, estimate + seconds
        bench.row(
            loss=name,
            runs=runs,
            runs_at_once=job["chunk"] * width,
            seconds_per_step=of_step,
            run_steps_per_second=rates[name],
            seconds_of_all_its_runs=seconds,
        )
    if len(rates) < len(jobs):
        bench.row(table="left out", why="not every loss has a rate")
        return
    all_runs = len(streams) * sum(len(job["settings"]["learning_rate"]) for job in jobs.values())
    scale = ALL_RUNS * EPOCHS / (all_runs * epochs) if bench.tiny else 1
    bench.row(
        runs=all_runs,
        seconds_of_the_table=estimate,
        seconds_of_4095_runs=estimate * scale,
        run_steps_per_second=all_runs * steps * epochs / estimate,
    )
    whole_table(bench, jobs, plan, epochs, estimate)


def data_sets(bench: Bench) -> tuple[dict[str, Any], np.ndarray, str]:
    """Noises by folds with a leading axis, their streams of random numbers, where they are from."""
    try:
        development, test = letter(bench.data_dir) if bench.data_dir else generated(bench.tiny)
        source = "letter.npz" if bench.data_dir else "generated"
    except Exception as error:  # noqa: BLE001
        bench.note(file_not_read=reason(error))
        (development, test), source = generated(bench.tiny), "generated"
    noises = ("clean",) if bench.tiny else ("clean", "uniform", "class_dependent")
    folds = 2 if bench.tiny else FOLDS
    found, parts = all_noisy_folds("letter", development, test, noises, folds, 1)
    return parts, np.array([one.seed * folds + one.fold for one in found]), source


def generated(tiny: bool) -> tuple[dict, dict]:
    """Rows of letter's shape: classes around centres of their own, whole numbers from 0 to 15."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(3, 12, (CLASSES, COLUMNS))

    def part(size):
        labels = rng.permutation(np.arange(size) % CLASSES).astype(np.int32)
        x = np.clip(np.rint(centres[labels] + rng.normal(0, 2.5, (size, COLUMNS))), 0, 15)
        return {"x": np.float32(x) / 15, "label": labels, "index": np.arange(size, dtype=np.int32)}

    return (part(520), part(104)) if tiny else (part(ROWS), part(TEST_ROWS))


def problem(
    name: str, in_lanes: bool, parts: Mapping, streams: np.ndarray, total_steps: int
) -> dict[str, Any]:
    """A loss with all its settings on all data sets, and how many data sets at once."""
    hidden = hidden_widths(COLUMNS, CLASSES)
    layers, as_network = (models.LaneMLP, tabular_in_lanes) if in_lanes else (models.MLP, tabular)
    model = layers(num_classes=CLASSES, hidden=hidden)
    network = as_network(model)
    method = robust_loss(CATALOGUE[name].function, RATES, network=network, total_steps=total_steps)
    example = jnp.zeros((COLUMNS, 1) if in_lanes else (1, COLUMNS))
    params = initial_variables(model, example, [int(stream) for stream in streams])
    trainer = make_trainer(
        method,
        train.staircase_schedule(total_steps),
        functools.partial(measure, network),
        weight_decay=5e-3,
    )
    settings = stack_settings(method.settings)
    devices, width = jax.local_device_count(), len(method.settings)
    chunk = len(streams)
    if jax.default_backend() == "cpu":
        chunk = min(chunk, devices * max(1, RUNS_AT_ONCE_ON_CPU // width))
    return {
        "trainer": trainer,
        "settings": settings,
        "parts": dict(parts) | {"params": jax.tree.map(np.asarray, params), "seed": streams},
        "chunk": -(-chunk // devices) * devices,
    }


def go(job: Mapping, plan: Any, epochs: int, report: Any = None) -> list[tuple[range, dict]]:
    """Trains all its runs."""
    return list(
        train.in_chunks(
            job["trainer"],
            job["settings"],
            job["parts"],
            plan,
            epochs=epochs,
            chunk=job["chunk"],
            report=report,
        )
    )


def first_chunk(job: Mapping) -> dict[str, Any]:
    """The same with as many data sets as go at once."""
    own = jax.tree.map(lambda values: values[: job["chunk"]], job["parts"])
    return dict(job) | {"parts": own}


def epochs_per_call(steps: int, epochs: int) -> int:
    """How many of so many epochs the engine runs in one call."""
    most = max(train.chunks.STEPS_PER_CALL // steps, 1)
    return max(n for n in range(1, min(most, epochs) + 1) if epochs % n == 0)


def warm_up(jobs: Mapping[str, Mapping], plan: Any, steps: int, epochs: int) -> None:
    """Compiles the programs of all losses beside each other; errors show when they are timed."""
    of_a_call = epochs_per_call(steps, epochs)
    compiled_together(
        {
            name: functools.partial(go, first_chunk(job), plan_of(plan, job), of_a_call)
            for name, job in jobs.items()
        }
    )


def plan_of(plan: Any, job: Mapping) -> Any:
    """The rows of the first data sets alone."""
    chunk = job["chunk"]
    return lambda epoch: {name: values[:, :chunk] for name, values in plan(epoch).items()}


def rate(job: Mapping, plan: Any, steps: int, epochs: int) -> tuple[float, int]:
    """Seconds of a step of a chunk, by the last call of the engine, and settings per data set."""
    ends: list[tuple[int, float]] = []

    def report(epoch: int, run_steps: int) -> None:
        ends.append((epoch, time.perf_counter()))

    # Calls of the length that the whole table has, the second of two where they do not go in one.
    each = epochs_per_call(steps, epochs)
    many = 2 * each if 2 * each * steps > train.chunks.STEPS_PER_CALL else each
    go(first_chunk(job), plan_of(plan, job), each)
    ends.append((0, time.perf_counter()))
    go(first_chunk(job), plan_of(plan, job), many, report)
    (before, start), (after, end) = ends[-2:]
    return (end - start) / ((after - before) * steps), len(job["settings"]["learning_rate"])


def faster_layout(
    bench: Bench, parts: Mapping, streams: np.ndarray, plan: Any, steps: int, epochs: int
) -> bool:
    """Whether examples belong in the last axis on this device, by cross-entropy's rates."""
    found = {}
    for in_lanes in (True, False):
        job = problem("cross_entropy", in_lanes, parts, streams, steps * epochs)
        try:
            found[in_lanes], _ = rate(job, plan, steps, epochs)
        except Exception as error:  # noqa: BLE001
            bench.row(examples_in_lanes=in_lanes, why=reason(error))
            continue
        bench.row(examples_in_lanes=in_lanes, seconds_per_step=found[in_lanes])
    return min(found, key=found.get, default=True)


def whole_table(bench: Bench, jobs: Mapping, plan: Any, epochs: int, estimate: float) -> None:
    """All runs to the end, if there is time for them."""
    if estimate > WHOLE_TABLE_SECONDS:
        bench.row(table="left out", why=f"it would take {estimate:.0f} s")
        return
    # Measuring and what is not in the rates come on top.
    missing = 1.25 * estimate + 5 - bench.left()
    if missing > bench.spare:
        bench.row(table="left out", why=f"{missing:.0f} s more than this start has")
        return
    bench.extend(max(missing, 0))
    start, accuracies = time.perf_counter(), {}
    for name, job in jobs.items():
        chunks = go(job, plan, epochs)
        found = {
            key: np.concatenate([measured[key] for _, measured in chunks])
            for key in ("accuracy", "validation_accuracy")
        }
        best = found["validation_accuracy"].mean(0).argmax()
        accuracies[name] = float(100 * found["accuracy"][:, best].mean())
    bench.row(table="whole", seconds=time.perf_counter() - start, accuracy=accuracies)
