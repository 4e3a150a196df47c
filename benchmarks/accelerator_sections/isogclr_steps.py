"""(f) What a training step costs more with iSogCLR's temperatures than with SimCLR."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from accelerator_sections.bench import Bench
from accelerator_sections.measuring import (
    Program,
    carried,
    compiled,
    compiled_together,
    in_turn,
    interleaved,
)
from lnl_jax import contrastive, models, train
from lnl_jax.comparison.encoders import embed_views, lars
from lnl_jax.data import augment

HELD_AGAINST = "SimCLR's step with the same network, views and batch, in turns"
TABLE, TINY_TABLE = 1_300_000, 1_000
BATCHES, TINY_BATCHES = (256, 1024), (8,)
PROJECTOR, TEMPERATURE = 512, 0.1
LEARNT = contrastive.Temperatures(rho=0.4, step=0.03, momentum=0.5, range=(0.05, 1.0), clip=3.0)


def simclr(views: jax.Array, rows: Any, where: jax.Array) -> tuple[jax.Array, Any]:
    """InfoNCE of two views; it has no rows."""
    return contrastive.info_nce(views, views, temperature=TEMPERATURE, where=where), rows


def isogclr(views: jax.Array, rows: Any, where: jax.Array) -> tuple[jax.Array, Any]:
    """Losses and rows after a visit."""
    values, rows, _ = contrastive.isogclr(
        views, views, rows, gamma=0.8, temperatures=LEARNT, where=where
    )
    return values, rows


def run(bench: Bench) -> None:
    """Both steps and the views alone, by batch."""
    table = TINY_TABLE if bench.tiny else TABLE
    batches = TINY_BATCHES if bench.tiny else BATCHES
    network = network_of(bench.tiny)
    key = jax.random.key(0, impl="rbg")
    variables = jax.jit(network.init)(key, jnp.zeros((1, 32, 32, 3)))
    given = {batch: batch_of(batch, table) for batch in batches}
    # All of them beside each other: the largest programs of this script.
    jobs = {
        (batch, loss.__name__): functools.partial(
            program, network, variables, given[batch], table, loss
        )
        for batch in batches
        for loss in (simclr, isogclr)
    }
    jobs |= {
        (batch, "views"): functools.partial(compiled, views, (key, given[batch]["image"]))
        for batch in batches
    }
    programs = compiled_together(jobs)
    for batch in batches:
        if bench.has_time(1, f"batch {batch}"):
            of_batch = {name: found for (size, name), found in programs.items() if size == batch}
            measure(bench, of_batch, given[batch], table)


def batch_of(size: int, table: int) -> dict[str, jax.Array]:
    """Images in bytes, each with a row of its own in the table."""
    images = jax.random.randint(jax.random.key(3), (size, 32, 32, 3), 0, 256)
    index = jnp.arange(size) * (table // size)
    return {"image": images.astype(jnp.uint8), "index": index, "mask": jnp.ones(size, bool)}


def views(key: jax.Array, images: jax.Array) -> list[jax.Array]:
    """Two of each image."""
    return [augment.simclr_view(one, images) for one in jax.random.split(key)]


def measure(bench: Bench, programs: dict[str, Any], given: dict, table: int) -> None:
    """A row for each step, in turns."""
    batch, calls = len(given["mask"]), {}
    for name, found in programs.items():
        if isinstance(found, tuple) and not isinstance(found, Program):
            calls[name] = carried(found[0].call, found[1], given)
        elif not isinstance(found, str):
            key = jax.random.key(2, impl="rbg")
            calls[name] = in_turn(found.call, [(key, given["image"])])
    times = interleaved(calls, 0.1 if bench.tiny else 2)
    of_simclr = times.get("simclr")
    for name, found in programs.items():
        row = {"step": name, "batch": batch, "rows_of_table": table * (name == "isogclr")}
        time = found if isinstance(found, str) else times[name]
        if isinstance(time, str):
            bench.row(**row, why=time)
            continue
        step = found if isinstance(found, Program) else found[0]
        row |= time.row() | {"images_per_second": batch / time.median}
        row |= {"compile_seconds": step.compile_seconds, "extra_bytes": step.extra_bytes}
        if not isinstance(of_simclr, str | None):
            row["times_simclr"] = time.median / of_simclr.median
        bench.row(**row)


def network_of(tiny: bool) -> models.ProjectedEncoder:
    """ResNet-18 and a projector, in bfloat16 but on a CPU."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    if tiny:
        encoder = models.resnet8(10, width=4).clone(num_classes=None, dtype=dtype)
        return models.ProjectedEncoder(encoder, models.ProjectionHead((8,), 8))
    encoder = models.resnet18(None).clone(dtype=dtype)
    return models.ProjectedEncoder(
        encoder, models.ProjectionHead((PROJECTOR, PROJECTOR), PROJECTOR)
    )


def program(network: Any, variables: Any, batch: Any, table: int, loss: Any) -> tuple[Any, Any]:
    """The step of a loss and its state, which for iSogCLR has a row of every example."""
    embed = embed_views(network, np.full(3, 0.5), np.full(3, 0.25), padded=False)
    tx = lars(lambda _: 0.1, 5e-4)

    def loss_fn(params, extra, rows, batch, key):
        views, extra = embed(params, extra, batch, key)
        values, rows = loss(views, rows, jnp.tile(batch["mask"], 2)[None])
        return values, (extra, rows, {})

    state = train.init_state(
        variables["params"],
        tx,
        key=jax.random.key(1),
        extra=variables["batch_stats"],
        tables=contrastive.isogclr_table(table, TEMPERATURE) if loss is isogclr else (),
    )
    step = compiled(train.make_train_step(loss_fn, tx), (state, batch), donate_argnums=0)
    # Each has arrays of its own to donate.
    return step, jax.tree.map(jnp.copy, state)
