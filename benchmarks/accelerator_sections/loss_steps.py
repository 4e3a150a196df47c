"""(b) Every loss, forward and backward, against the memory roof and optax's cross-entropy."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from losses import BASELINE, LOSSES
from losses import compiled as value_and_gradient

from accelerator_sections.bench import Bench
from accelerator_sections.measuring import compiled, compiled_together, in_turn, interleaved
from lnl_jax import losses

HELD_AGAINST = (
    "the memory roof: scores read once and their gradient written once, against the copy of (a); "
    "where that is less than a dispatch, no share is to be had from one call"
)
SHAPES = ((8192, 1000), (4096, 50257))
TINY_SHAPES = ((64, 10), (16, 300))
DTYPES = ("bfloat16", "float32")
# Those of which something is asked come first, whatever the time is enough for.
FIRST = (
    BASELINE,
    "ldr_kl",
    "generalized_cross_entropy",
    "mean_absolute_error",
    "symmetric_cross_entropy",
    "aldr_kl_step",
    "aldr_kl",
    "ldr_kl, margin 0.1",
)
AT_ONCE = 8
# Input sets take turns until they are larger than any cache.
BYTES_IN_TURN = 2**28
# Losses that are told a matrix of all pairs of classes.
WITH_MATRIX = ("forward_correction", "backward_correction")
LARGEST_MATRIX = 2**30


def run(bench: Bench) -> None:
    """The first losses at all shapes and dtypes, then all others."""
    bench.note(without_arguments_here=unmeasured())
    shapes = TINY_SHAPES if bench.tiny else SHAPES
    first = [name for name in FIRST if name in LOSSES]
    others = [name for name in LOSSES if name not in first]
    groups = [first, *(others[at : at + AT_ONCE] for at in range(0, len(others), AT_ONCE))]
    for names, dtype, shape in itertools.product(groups, DTYPES, shapes):
        if bench.tiny and names is not first and shape != shapes[0]:
            continue
        what = f"{names[0]} to {names[-1]}, {shape}, {dtype}"
        if bench.has_time(1 if bench.tiny else 4, what):
            measure(bench, names, shape, dtype)


def unmeasured() -> list[str]:
    """Losses of the library that the table in `benchmarks/losses.py` does not name."""
    functions = {name: getattr(losses, name) for name in losses.__all__}
    takes_labels = {
        name
        for name, function in functions.items()
        if callable(function) and [*inspect.signature(function).parameters][:2] == FORM
    }
    return sorted(takes_labels - {name.partition(",")[0] for name in LOSSES} - NO_LOSS)


FORM = ["logits", "labels"]
# They take logits and labels, but give no loss.
NO_LOSS = {"aldr_temperature", "confident"}


def measure(bench: Bench, names: list[str], shape: tuple[int, int], dtype: str) -> None:
    """Rows of some losses and the baseline beside them."""
    num_bytes = 2 * np.prod(shape) * jnp.dtype(dtype).itemsize
    names = [BASELINE, *(name for name in names if name != BASELINE)]
    sets = inputs(shape, dtype, int(min(max(BYTES_IN_TURN // num_bytes, 2), 8)))
    jobs, refused = {}, {}
    for name in names:
        matrix = 4 * shape[1] ** 2 if name in WITH_MATRIX else 0
        if matrix > LARGEST_MATRIX:
            refused[name] = f"its matrix of all pairs of classes takes {matrix / 2**30:.0f} GiB"
        else:
            jobs[name] = functools.partial(compiled, value_and_gradient(LOSSES[name]), sets[0])
    programs = compiled_together(jobs)
    refused |= {name: found for name, found in programs.items() if isinstance(found, str)}
    programs = {name: found for name, found in programs.items() if name not in refused}
    calls = {name: in_turn(program.call, sets) for name, program in programs.items()}
    times = interleaved(calls, 0.02 * len(calls) if bench.tiny else 0.6)
    of_baseline = times.get(BASELINE)
    for name in names:
        row = {"loss": name, "shape": shape, "dtype": dtype}
        time = refused.get(name) or times[name]
        if isinstance(time, str):
            bench.row(**row, why=time)
            continue
        program = programs[name]
        row |= time.row() | {"compile_seconds": program.compile_seconds}
        row["memory_share"] = bench.roofs().memory_share(num_bytes, time.median)
        if program.bytes_accessed:
            row["compiler_bytes"] = program.bytes_accessed
            row["compiler_bytes_ratio"] = program.bytes_accessed / num_bytes
        row["extra_bytes"] = program.extra_bytes
        if not isinstance(of_baseline, str | None):
            row["times_cross_entropy"] = time.median / of_baseline.median
        dispatch = bench.roofs().dispatch_seconds
        if dispatch:
            row["is_bound_by_dispatch"] = time.median < 2 * dispatch
        # A time of something that is not finite would be one of nothing.
        row["value"] = float(programs[name].call(*sets[0])[0])
        bench.row(**row)


def inputs(shape: tuple[int, int], dtype: str, count: int) -> list[tuple[jax.Array, jax.Array]]:
    """Scores and labels, each set drawn anew."""
    found = []
    for number in range(count):
        of_scores, of_labels = jax.random.split(jax.random.key(number))
        scores = 3 * jax.random.normal(of_scores, shape)
        labels = jax.random.randint(of_labels, shape[:1], 0, shape[1])
        found.append((scores.astype(dtype), labels))
    return found
