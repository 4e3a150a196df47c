"""(c) InfoNCE with all pairs at once and in tiles: time, memory, exactness, the largest batch."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from accelerator_sections.bench import Bench, reason
from accelerator_sections.measuring import (
    Program,
    Time,
    compiled,
    compiled_together,
    fits,
    interleaved,
    memory_limit,
    memory_peak,
)
from lnl_jax import contrastive

HELD_AGAINST = (
    "the product roof of its dtype in (a): 6 B^2 d operations at once, 8 B^2 d in tiles; and the "
    "memory of the device"
)
TEMPERATURE = 0.07
WIDTH, TINY_WIDTH = 512, 16
SIZES, TINY_SIZES = (4096, 8192, 16384, 32768, 65536, 131072), (32, 64)
BLOCKS, TINY_BLOCKS = (1024, 4096), (16,)
# CLIP's loss of both directions, for which PyTorch is asked as well.
CLIP_SIZES, TINY_CLIP_SIZES = (8192, 16384, 32768), (32,)
# Beyond those that are run the compiler is asked, up to this batch.
LARGEST = 2**20


def info_nce(queries: jax.Array, keys: jax.Array, block_size: int | None) -> jax.Array:
    """Its mean."""
    return contrastive.info_nce(
        queries, keys, temperature=TEMPERATURE, block_size=block_size
    ).mean()


def clip(images: jax.Array, texts: jax.Array, block_size: int | None) -> jax.Array:
    """Half of each direction."""
    return 0.5 * (info_nce(images, texts, block_size) + info_nce(texts, images, block_size))


def run(bench: Bench) -> None:
    """Batches by size and dtype, then CLIP's loss, then the largest batch."""
    sizes, blocks = (TINY_SIZES, TINY_BLOCKS) if bench.tiny else (SIZES, BLOCKS)
    clips = TINY_CLIP_SIZES if bench.tiny else CLIP_SIZES
    jobs = [
        (loss, size, dtype)
        for dtype in ("bfloat16", "float32")
        for loss, of_loss in ((clip, clips), (info_nce, sizes))
        for size in of_loss
    ]
    # The batch of which something is asked comes first.
    jobs.sort(key=lambda job: job[1] != 65536 or job[2] != "bfloat16" or job[0] is not info_nce)
    for loss, size, dtype in jobs:
        if bench.has_time(1 if bench.tiny else 4, f"{loss.__name__}, {size}, {dtype}"):
            measure(bench, loss, size, dtype, blocks)
    if bench.has_time(1 if bench.tiny else 4, "largest batches"):
        forms = itertools.product(("bfloat16", "float32"), (None, max(blocks)))
        jobs = {form: functools.partial(largest, bench, *form) for form in forms}
        for (dtype, block), row in compiled_together(jobs).items():
            why = {"largest": dtype, "block": block, "why": row}
            bench.row(**(why if isinstance(row, str) else row))


def program_of(
    loss: Callable, size: int, dtype: str, block_size: int | None, width: int
) -> Program:
    """Value and both gradients."""
    step = jax.value_and_grad(functools.partial(loss, block_size=block_size), (0, 1))
    shape = jax.ShapeDtypeStruct((size, width), dtype)
    return compiled(step, (shape, shape))


def measure(bench: Bench, loss: Callable, size: int, dtype: str, blocks: tuple[int, ...]) -> None:
    """A row for all pairs at once and for each size of the tiles."""
    width = TINY_WIDTH if bench.tiny else WIDTH
    forms: list[int | None] = [None, *(block for block in blocks if block <= size)]
    jobs = {
        str(block): functools.partial(program_of, loss, size, dtype, block, width)
        for block in forms
    }
    programs = compiled_together(jobs)
    rows: dict[str, dict[str, Any]] = {}
    pair = embeddings(size, width, dtype)
    results: dict[str, Any] = {}
    # In tiles first: the peak of memory only rises.
    for name in reversed(programs):
        program = programs[name]
        block = None if name == "None" else int(name)
        rows[name] = {"loss": loss.__name__, "batch": size, "dtype": dtype, "block": block}
        if isinstance(program, str):
            rows[name]["why"] = program
            continue
        rows[name] |= {
            "extra_bytes": program.extra_bytes,
            "compile_seconds": program.compile_seconds,
            "fits": fits(program),
        }
        if not fits(program):
            need, limit = program.needed_bytes, memory_limit()
            rows[name]["why"] = f"{need} bytes by the compiler, of {limit} on the device"
            continue
        try:
            results[name] = jax.block_until_ready(program.call(*pair))
            rows[name]["peak_bytes_of_process"] = memory_peak()
        except Exception as error:  # noqa: BLE001
            rows[name] |= {"fits": False, "why": reason(error)}
    differences = dict(distances(results))
    calls = {name: functools.partial(programs[name].call, *pair) for name in results}
    results.clear()
    times = interleaved(calls, 0.05 if bench.tiny else 0.5)
    dense = times.get("None")
    for name, row in rows.items():
        time = times.get(name)
        if isinstance(time, str):
            row["why"] = time
        elif time is not None:
            row |= time.row() | differences.get(name, {})
            products = (6 if row["block"] is None else 8) * (2 if loss is clip else 1)
            flops = products * float(size) ** 2 * width
            row["product_share"] = bench.roofs().product_share(flops, time.median, dtype)
            if isinstance(dense, Time):
                row["times_dense"] = time.median / dense.median
        bench.row(**row)


def embeddings(size: int, width: int, dtype: str) -> list[jax.Array]:
    """Anchors and keys that belong together loosely, of length 1."""
    first, second = jax.random.normal(jax.random.key(0), (2, size, width))
    pair = (first, first + second)
    return [(x / jnp.linalg.norm(x, axis=-1, keepdims=True)).astype(dtype) for x in pair]


def distances(results: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """How far value and gradients in tiles are from those of all pairs at once, by norms."""
    if "None" not in results:
        return
    value, gradients = results["None"]
    for name, (other, other_gradients) in results.items():
        if name != "None":
            parts = [
                jnp.linalg.norm(a.astype(jnp.float32) - b.astype(jnp.float32))
                / jnp.linalg.norm(b.astype(jnp.float32))
                for a, b in zip(other_gradients, gradients, strict=True)
            ]
            of_value = abs(float(other) - float(value)) / abs(float(value))
            yield name, {"value_differs": of_value, "gradients_differ": float(max(parts))}


def largest(bench: Bench, dtype: str, block: int | None) -> dict[str, Any]:
    """The largest power of two whose bytes fit, by the compiler; such a batch is not run.

    Bytes grow with the square of the batch, or in tiles with the batch: where they would reach the
    limit, the compiler is asked.
    """
    width = TINY_WIDTH if bench.tiny else WIDTH
    start = (TINY_SIZES if bench.tiny else SIZES)[0]
    row = {"largest": dtype, "block": block, "memory_limit": memory_limit()}
    program = program_of(info_nce, start, dtype, block, width)
    if not program.needed_bytes:
        return row | {"why": "the compiler does not say how many bytes a program needs"}
    times = memory_limit() / program.needed_bytes
    # One further, since what a small batch needs has parts that do not grow.
    power = int(math.log2(times ** (0.5 if block is None else 1))) + 1
    # No index of 32 bits may overflow.
    size = min(start * 2**power, LARGEST)
    while size >= start:
        program = program_of(info_nce, size, dtype, block, width)
        if fits(program):
            return row | {"batch": size, "needed_bytes": program.needed_bytes}
        size //= 2
    return row | {"batch": None}
