"""What a step of iSogCLR takes on each of 8, 64 and 256 devices, without any of them.

python benchmarks/scaling.py [--devices 8,64,256] [--sets imagenet,cc12m,laion] [--per_device 64]
    [--json FILE] [--tiny]

The whole training step (towers, loss, tables, AdamW) is compiled ahead of time for so many
simulated devices of a CPU, one process each, on shapes alone: the batch is split over the devices,
parameters are replicated, tables are replicated or split by example. Printed is what the compiler
says of one device: bytes of what stays (parameters, optimiser, tables), bytes that a step holds
besides, floating-point operations; and the bytes of each kind of collective in its program. All in
float32. A CPU's compiler plans its memory otherwise than a TPU's: take `step` as an order of
magnitude, `state` and the collectives as they are.
"""

import argparse
import collections
import functools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

GAMMA, EMBED_DIM = 0.8, 512
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}
GIB = 2**30


class TrainingSet(NamedTuple):
    """How large a set is, and of what.

    Attributes:
        title: for people.
        examples: N; each has a row in each table.
        has_captions: images and texts with a tower each; else two views of images.
    """

    title: str
    examples: int
    has_captions: bool


SETS = {
    "imagenet": TrainingSet("ImageNet-1k", 1_281_167, False),
    "cc12m": TrainingSet("CC12M", 12_423_374, True),
    "laion": TrainingSet("LAION-400M", 407_332_084, True),
}


def main() -> None:
    """Compiles for each number of devices in a process of its own, prints, and writes."""
    options = parsed()
    if options.of is not None:
        print(json.dumps(measured(options.of, options)))
        return
    rows = []
    for number in options.devices:
        for name in options.sets:
            for split in (False, True):
                row = by_process(name, number, split, options)
                rows.append(row)
                print(line(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=integers, default=[8, 64, 256])
    parser.add_argument("--sets", type=names, default=list(SETS))
    parser.add_argument("--per_device", type=int, default=64, help="examples of a step on each")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the rows")
    parser.add_argument("--tiny", action="store_true", help="small towers, as a check")
    # What a process that compiles is told by the one that waits for it.
    parser.add_argument("--of", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.per_device < 1 or min(options.devices) < 1:
        parser.error("--devices and --per_device must be at least 1")
    if unknown := sorted(set(options.sets) - set(SETS)):
        parser.error(f"--sets must be some of {','.join(SETS)}; got {','.join(unknown)}")
    return options


def integers(text: str) -> list[int]:
    """``"8,64"`` to numbers."""
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """``"a,b"`` to words."""
    return text.split(",")


def by_process(name: str, devices: int, split: bool, options: argparse.Namespace) -> dict:
    """The row of one program; the number of devices is fixed once JAX has started."""
    wanted = json.dumps({"set": name, "devices": devices, "split_tables": split})
    command = [sys.executable, __file__, "--of", wanted, "--per_device", str(options.per_device)]
    # Nothing runs: what makes programs fast can be left out, memory is planned before.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
    }
    command += ["--tiny"] * options.tiny
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"compiling for {devices} devices ended with {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])


def measured(wanted: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Compiles one step and reads what the compiler says of it."""
    import jax

    training_set, devices = SETS[wanted["set"]], wanted["devices"]
    step, arguments = step_and_shapes(training_set, wanted, options)
    compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    state = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(arguments[0])
    )
    return wanted | {
        "title": training_set.title,
        "examples": training_set.examples,
        "batch": options.per_device * devices,
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(arguments[0].params)),
        "state_bytes": state,
        "table_bytes": sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(arguments[0].tables)
        ),
        "step_bytes": memory.temp_size_in_bytes,
        "flops": compiled.cost_analysis()["flops"],
        "collective_bytes": collective_bytes(compiled.as_text()),
    }


def step_and_shapes(training_set: TrainingSet, wanted: dict, options: argparse.Namespace) -> tuple:
    """A training step, and the shapes of a state and a batch with where they lie."""
    import jax
    import optax
    from jax.sharding import NamedSharding, PartitionSpec

    from lnl_jax import contrastive, train

    towers, sides = towers_and_sides(training_set, options)
    inputs = shapes_of_batch(sides, options.per_device * wanted["devices"])
    make_loss = loss_of_pairs if training_set.has_captions else loss_of_views
    tx = optax.adamw(1e-3, weight_decay=0.1)

    def start(key):
        params = {
            name: tower.init(key, jax.numpy.zeros((1, *sides[name][0]), sides[name][1]))["params"]
            for name, tower in towers.items()
        }
        tables = {name: contrastive.isogclr_table(training_set.examples, 0.01) for name in towers}
        return train.init_state(params, tx, key=key, tables=tables)

    mesh = train.data_mesh()
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_example = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))

    def placed(sharding, leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state = jax.eval_shape(start, jax.random.key(0))
    of_tables = by_example if wanted["split_tables"] else everywhere
    tables = jax.tree.map(functools.partial(placed, of_tables), padded(state.tables, mesh.size))
    state = jax.tree.map(functools.partial(placed, everywhere), state._replace(tables=()))
    batch = jax.tree.map(functools.partial(placed, by_example), inputs)
    step = train.make_train_step(make_loss(towers), tx)
    return step, (state._replace(tables=tables), batch)


def loss_of_views(towers: dict) -> Callable:
    """The loss of two views of an image, which share a row."""
    import jax.numpy as jnp

    def loss_fn(params, extra, rows, batch, key):
        views = [
            embedded(towers["image"], params["image"], batch[name]) for name in ("image", "other")
        ]
        views = jnp.stack(views)
        losses, moved, _ = loss(views, views, rows["image"])
        return losses, (extra, {"image": moved}, {})

    return loss_fn


def loss_of_pairs(towers: dict) -> Callable:
    """The loss of images and texts, with rows of their own."""

    def loss_fn(params, extra, rows, batch, key):
        image, text = (
            embedded(towers[name], params[name], batch[name]) for name in ("image", "text")
        )
        there, of_images, _ = loss(image, text, rows["image"])
        back, of_texts, _ = loss(text, image, rows["text"])
        return (there + back) / 2, (extra, {"image": of_images, "text": of_texts}, {})

    return loss_fn


def embedded(tower: Any, params: Any, inputs: Any) -> Any:
    """Normalised embeddings."""
    import jax.numpy as jnp

    z = tower.apply({"params": params}, inputs)
    return z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12)


def loss(queries: Any, keys: Any, rows: Any) -> tuple:
    """The loss with the settings of the official bimodal code."""
    from lnl_jax import contrastive

    learnt = contrastive.Temperatures(6.0, 0.03, 0.9, (0.005, 1.0), 5.0)
    return contrastive.isogclr(queries, keys, rows, gamma=GAMMA, temperatures=learnt)


def padded(tables: Any, devices: int) -> Any:
    """Rows to a multiple of the devices, over which they are split evenly."""
    import jax

    def more(leaf):
        return jax.ShapeDtypeStruct((-(-leaf.shape[0] // devices) * devices,), leaf.dtype)

    return jax.tree.map(more, tables)


def towers_and_sides(training_set: TrainingSet, options: argparse.Namespace) -> tuple[dict, dict]:
    """The networks, and by array of a batch the shape and dtype of one example."""
    import jax.numpy as jnp

    from lnl_jax import models

    size = 16 if options.tiny else 224
    small = {"width": 16, "depth": 1, "heads": 2} if options.tiny else {}
    patch = {"patch_size": 8} if options.tiny else {}
    towers = {"image": models.VisionTower(EMBED_DIM, image_size=size, **small, **patch)}
    sides = {"image": ((size, size, 3), jnp.float32), "other": ((size, size, 3), jnp.float32)}
    if training_set.has_captions:
        towers["text"] = models.TextTower(EMBED_DIM, **small)
        sides = {"image": sides["image"], "text": ((towers["text"].context_length,), jnp.int32)}
    return towers, sides


def shapes_of_batch(sides: dict, batch: int) -> dict:
    """Of all arrays of a batch."""
    import jax
    import jax.numpy as jnp

    shapes = {
        name: jax.ShapeDtypeStruct((batch, *shape), dtype) for name, (shape, dtype) in sides.items()
    }
    index = jax.ShapeDtypeStruct((batch,), jnp.int32)
    return shapes | {"index": index, "mask": jax.ShapeDtypeStruct((batch,), bool)}


def collective_bytes(program: str) -> dict[str, int]:
    """Bytes of the results of all collectives in a compiled program, by kind."""
    found = collections.Counter()
    for kind in COLLECTIVES:
        for result in re.findall(rf"= (.*?) {kind}(?:-start)?\(", program):
            for dtype, shape in re.findall(r"([a-z0-9]+)\[([0-9,]*)\]", result):
                size = math.prod(int(side) for side in shape.split(",") if side)
                found[kind] += size * BYTES.get(dtype, 4)
    return dict(found)


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    moved = ", ".join(f"{kind} {size / GIB:.3f}" for kind, size in row["collective_bytes"].items())
    tables = "split" if row["split_tables"] else "replicated"
    return (
        f"{row['title']}, {row['devices']} devices, batch {row['batch']}, tables {tables}: state "
        f"{row['state_bytes'] / GIB:.2f} GiB (tables {row['table_bytes'] / GIB:.3f}), step "
        f"{row['step_bytes'] / GIB:.2f} GiB, {row['flops'] / 1e12:.2f} TFLOP; {moved or 'nothing'}"
    )


if __name__ == "__main__":
    main()
