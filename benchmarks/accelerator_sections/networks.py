"""(e) Training steps of ResNets: images per second, and what a step is made of."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from accelerator_sections.bench import Bench, reason
from accelerator_sections.measuring import (
    Program,
    carried,
    compiled,
    compiled_together,
    fits,
    in_turn,
    interleaved,
)
from lnl_jax import models, train
from lnl_jax.data import augment

HELD_AGAINST = "the product roof of its dtype in (a), by the operations of the step as it is traced"
CLASSES, EXAMPLES, SCANNED = 10, 10_000, 10
NETWORKS = {"resnet18": models.resnet18, "resnet8": models.resnet8}
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
# The batch of which something is asked comes first.
BATCHES, TINY_BATCHES = (512, 128, 1024, 256), (8,)


def network_of(name: str, dtype: str, tiny: bool) -> models.ResNet:
    """The network in its usual width."""
    return NETWORKS[name](CLASSES, **({"width": 4} if tiny else {})).clone(dtype=jnp.dtype(dtype))


@functools.cache
def variables_of(name: str, tiny: bool) -> Any:
    """Parameters and statistics, which do not depend on the dtype of the computation."""
    # XLA's own generator compiles in a fraction of the time of the default one.
    key = jax.random.key(0, impl="rbg")
    return jax.jit(network_of(name, "float32", tiny).init)(key, jnp.zeros((1, 32, 32, 3)))


OPTIMIZER = optax.sgd(0.01, 0.9)


def start(name: str, tiny: bool) -> train.TrainState:
    """A state before the first step, with arrays of its own, which may be donated."""
    variables = jax.tree.map(jnp.copy, variables_of(name, tiny))
    return train.init_state(
        variables["params"], OPTIMIZER, key=jax.random.key(1), extra=variables["batch_stats"]
    )


def training(model: models.ResNet, *, axis_name: str | None = None) -> Callable:
    """A step of SGD with momentum on cross-entropy."""

    def loss_fn(params, extra, rows, batch, key):
        scores, updated = model.apply(
            {"params": params, "batch_stats": extra},
            batch["image"],
            train=True,
            mutable=["batch_stats"],
        )
        values = optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"])
        return values, (updated["batch_stats"], rows, {})

    return train.make_train_step(loss_fn, OPTIMIZER, axis_name=axis_name)


def batch_of(size: int) -> dict[str, jax.Array]:
    """Random images, scaled as those of a data set are."""
    of_images, of_labels = jax.random.split(jax.random.key(2))
    return {
        "image": jax.random.normal(of_images, (size, 32, 32, 3)),
        "label": jax.random.randint(of_labels, (size,), 0, CLASSES),
    }


def run(bench: Bench) -> None:
    """Steps, the share of the data, loops against dispatched steps, several devices."""
    batches = TINY_BATCHES if bench.tiny else BATCHES
    names = ("resnet8",) if bench.tiny else tuple(NETWORKS)
    jobs = [
        (name, batch, dtype)
        for batch, dtype, name in itertools.product(batches, ("bfloat16", "float32"), names)
    ]
    if bench.tiny:
        # ResNet-18 takes long to compile on a CPU: one of its programs is enough for a check.
        jobs.append(("resnet18", TINY_BATCHES[0], "float32"))
    # Some at a time, so that what is compiled is also timed.
    at_once = 2 if bench.tiny else 4
    steps(bench, jobs[:at_once])
    loops(bench)
    devices(bench)
    for at in range(at_once, len(jobs), at_once):
        group = jobs[at : at + at_once]
        if bench.has_time(1 if bench.tiny else 10, str(group)):
            steps(bench, group)


def steps(bench: Bench, jobs: list[tuple[str, int, str]]) -> None:
    """A row for each network, batch and dtype, with the share that their data would take."""

    def program(name, batch, dtype):
        step, state = training(network_of(name, dtype, bench.tiny)), start(name, bench.tiny)
        return compiled(step, (state, batch_of(batch)), donate_argnums=0), state

    for name in {job[0] for job in jobs}:
        variables_of(name, bench.tiny)

    programs = compiled_together({job: functools.partial(program, *job) for job in jobs})
    for job, found in programs.items():
        name, batch, dtype = job
        row = {"network": name, "batch": batch, "dtype": dtype}
        if isinstance(found, str):
            bench.row(**row, why=found)
            continue
        step, state = found
        row |= {"compile_seconds": step.compile_seconds, "extra_bytes": step.extra_bytes}
        row["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        if not fits(step):
            bench.row(**row, why=f"needs {step.needed_bytes} bytes by the compiler")
            continue
        calls = {"step": carried(step.call, state, batch_of(batch))}
        data = prepared(batch)
        calls["data"] = in_turn(data.call, [data_arguments(batch)])
        times = interleaved(calls, 0.1 if bench.tiny else 1)
        if isinstance(times["step"], str):
            bench.row(**row, why=times["step"])
            continue
        time, of_data = times["step"], times["data"]
        row |= time.row() | {"images_per_second": batch / time.median, "flops": step.flops}
        row["product_share"] = bench.roofs().product_share(step.flops, time.median, dtype)
        if not isinstance(of_data, str):
            row["data_share"] = of_data.median / (time.median + of_data.median)
        bench.row(**row)


def prepare(key: jax.Array, images: jax.Array, labels: jax.Array, rows: jax.Array) -> Any:
    """The batch at some rows of a data set in bytes: cropped, flipped, in floating point."""
    crop, flip = jax.random.split(key)
    batch = augment.random_flip(flip, augment.random_crop(crop, images[rows], padding=4))
    return augment.to_float(batch, MEAN, STD), labels[rows]


@functools.cache
def data_arguments(batch: int) -> tuple:
    """A data set on the device, and positions of a batch."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(256, size=(EXAMPLES, 32, 32, 3)), jnp.uint8)
    labels = jnp.asarray(rng.integers(CLASSES, size=EXAMPLES), jnp.int32)
    return jax.random.key(0), images, labels, jnp.asarray(rng.integers(EXAMPLES, size=batch))


@functools.cache
def prepared(batch: int) -> Program:
    """`prepare`, compiled."""
    return compiled(prepare, data_arguments(batch))


def loops(bench: Bench) -> None:
    """Steps in one `scan` against the same ones dispatched: do gradients of convolutions suffer?"""
    if not bench.has_time(1 if bench.tiny else 10, "steps in a scan"):
        return
    count, batch = (2, 8) if bench.tiny else (SCANNED, 128)
    step = training(network_of("resnet8", "float32", bench.tiny))
    state, one = start("resnet8", bench.tiny), batch_of(batch)
    many = jax.tree.map(lambda values: jnp.stack([values] * count), one)
    jobs = {
        "dispatched": lambda: compiled(step, (state, one), donate_argnums=0),
        "in a scan": lambda: compiled(
            lambda state, many: jax.lax.scan(step, state, many), (state, many), donate_argnums=0
        ),
    }
    programs = compiled_together(jobs)
    row = {"loop": "resnet8", "batch": batch, "steps": count, "dtype": "float32"}
    whys = {name: found for name, found in programs.items() if isinstance(found, str)}
    if whys:
        bench.row(**row, why=whys)
        return
    alone = carried(programs["dispatched"].call, jax.tree.map(jnp.copy, state), one)

    def dispatched():
        for _ in range(count):
            found = alone()
        return found

    calls = {
        "dispatched": dispatched,
        "in a scan": carried(programs["in a scan"].call, jax.tree.map(jnp.copy, state), many),
    }
    times = interleaved(calls, 0.1 if bench.tiny else 1)
    whys = {name: time for name, time in times.items() if isinstance(time, str)}
    if whys:
        bench.row(**row, why=whys)
        return
    row |= {f"seconds_{name.replace(' ', '_')}": time.median for name, time in times.items()}
    bench.row(**row, scan_to_dispatched=times["in a scan"].median / times["dispatched"].median)


def devices(bench: Bench) -> None:
    """`jit` on a mesh beside `pmap`, where there is more than one device."""
    count = jax.local_device_count()
    if count == 1:
        bench.row(devices=1, why="one device: there is nothing to split")
        return
    if not bench.has_time(1 if bench.tiny else 10, "several devices"):
        return
    batch = (4 if bench.tiny else 128) * count
    whole, mesh = batch_of(batch), train.local_mesh()
    try:
        step = training(network_of("resnet8", "float32", bench.tiny))
        state = start("resnet8", bench.tiny)
        on_mesh = jax.jit(step, donate_argnums=0)
        # Batch statistics are of all devices in both.
        model = network_of("resnet8", "float32", bench.tiny).clone(axis_name="devices")
        mapped = training(model, axis_name="devices")
        on_each = jax.pmap(mapped, axis_name="devices", donate_argnums=0)
        parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), whole)
        copies = jax.tree.map(lambda x: jnp.stack([x] * count), state)
        calls = {
            "jit on a mesh": carried(
                on_mesh, train.replicate(state, mesh), train.shard_batch(whole, mesh)
            ),
            "pmap": carried(on_each, copies, parts),
        }
        times = interleaved(calls, 0.1 if bench.tiny else 1)
    except Exception as error:  # noqa: BLE001
        bench.row(devices=count, why=reason(error))
        return
    for name, time in times.items():
        row = {"devices": count, "batch": batch, "way": name}
        if isinstance(time, str):
            bench.row(**row, why=time)
        else:
            bench.row(**row, **time.row(), images_per_second=batch / time.median)
