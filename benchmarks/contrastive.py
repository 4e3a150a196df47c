"""Time and memory of contrastive losses: all pairs at once or in blocks; whole training steps.

python benchmarks/contrastive.py [--batch_sizes 1024 ... 8192] [--width 512] [--block_sizes 512]
    [--dtypes float32 bfloat16] [--losses info_nce isogclr] [--dense_up_to 8192] [--calls 5]
    [--json FILE]
python benchmarks/contrastive.py --steps 8 [--batch_sizes 32] [--json FILE]

The calls are interleaved and the fastest counts: a machine shared with others only ever adds time.
Memory is what the compiled program needs besides its arguments and results. Beyond
``--dense_up_to`` only blocks run: at 32768 one array of all pairs is 4 GiB. ``--calls 0`` compiles
and runs nothing. Where PyTorch is installed, its own InfoNCE in eager mode is timed as well.

``--steps`` times training steps of SimCLR and iSogCLR instead: two views of 32x32 images
through a ResNet-18 and a projector of 512, LARS, rows of a table of 50,000 examples; and the two
views alone.
"""

import argparse
import functools
import importlib.util
import json
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import contrastive, models, train
from lnl_jax.comparison.encoders import embed_views, lars
from lnl_jax.data import augment

TABLE, PROJECTOR = 50_000, 512
TEMPERATURE = 0.07
LEARNT = contrastive.Temperatures(rho=0.4, step=0.03, momentum=0.5, range=(0.05, 1.0))


def info_nce(queries, keys, block_size):
    """Its mean."""
    return contrastive.info_nce(
        queries, keys, temperature=TEMPERATURE, block_size=block_size
    ).mean()


def isogclr(queries, keys, block_size):
    """A visit of examples that were visited before."""
    size = len(queries)
    rows = (jnp.full(size, TEMPERATURE), jnp.zeros(size), jnp.zeros(size))
    values, rows, _ = contrastive.isogclr(
        queries,
        keys,
        contrastive.ContrastiveRows(*rows),
        gamma=0.8,
        temperatures=LEARNT,
        block_size=block_size,
    )
    return values.mean(), rows


LOSSES = {"info_nce": info_nce, "isogclr": isogclr}


def embeddings(batch_size, width, dtype):
    """Anchors and keys, of length 1."""
    keys = jax.random.split(jax.random.key(0))
    pair = (jax.random.normal(key, (batch_size, width)) for key in keys)
    return [(x / jnp.linalg.norm(x, axis=-1, keepdims=True)).astype(dtype) for x in pair]


def compiled(name, block_size, pair):
    """The program that makes the value and both gradients."""
    step = jax.value_and_grad(LOSSES[name], (0, 1), has_aux=name == "isogclr")
    return jax.jit(functools.partial(step, block_size=block_size)).lower(*pair).compile()


def torch_info_nce(pair):
    """Forward and backward in eager PyTorch, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    dtype = getattr(torch, str(pair[0].dtype))
    x, y = (torch.tensor(np.float32(part)).to(dtype).requires_grad_() for part in pair)
    places = torch.arange(len(x))

    def call(*_):
        loss = torch.nn.functional.cross_entropy(x @ y.T / TEMPERATURE, places)
        return torch.autograd.grad(loss, (x, y))

    return call


def fastest(calls, pair, repeats):
    """Seconds of the fastest call of each, in turns."""
    seconds = dict.fromkeys(calls, np.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call(*pair))
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def difference(actual, expected):
    """The largest one of value and gradients, relative to the largest entry of each."""
    of_each = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max().astype(float) / jnp.abs(b).max().astype(float),
        (actual[0], actual[1]),
        (expected[0], expected[1]),
    )
    return max(float(part) for part in jax.tree.leaves(of_each))


def measure(name, batch_size, dtype, args):
    """One dict for all pairs at once and for each size of the blocks."""
    dense = batch_size <= args.dense_up_to
    sizes = [None] * dense + [size for size in args.block_sizes if size <= batch_size]
    struct = jax.ShapeDtypeStruct((batch_size, args.width), dtype)
    calls = {size or "dense": compiled(name, size, (struct, struct)) for size in sizes}
    memory = {size: call.memory_analysis().temp_size_in_bytes for size, call in calls.items()}
    seconds, differences = run(name, batch_size, dtype, calls, args) if args.calls else ({}, {})
    for size in memory | seconds:
        row = {"loss": name, "batch_size": batch_size, "dtype": dtype, "block_size": size}
        if size in memory:
            row["extra_bytes"] = memory[size]
            row |= {"memory_ratio": memory[size] / memory["dense"]} if dense else {}
        if size in seconds:
            row["seconds"] = seconds[size]
            row |= {"time_ratio": seconds[size] / seconds["dense"]} if dense else {}
        if size in differences:
            row["difference"] = differences[size]
        print(json.dumps(row), flush=True)
        yield row


def run(name, batch_size, dtype, calls, args):
    """Seconds of each program, and how far its results are from those of all pairs at once."""
    pair = embeddings(batch_size, args.width, dtype)
    # The first call of each also warms it up.
    results = {size: jax.block_until_ready(call(*pair)) for size, call in calls.items()}
    dense = results.get("dense")
    differences = {
        size: difference(result, dense) for size, result in results.items() if dense is not None
    }
    in_torch = torch_info_nce(pair) if name == "info_nce" and dense is not None else None
    everything = calls | ({"torch": in_torch} if in_torch else {})
    return fastest(everything, pair, args.calls), differences


def of_simclr(views, rows, where):
    """Losses of two views, and the rows as they were."""
    values = contrastive.info_nce(views, views, temperature=rows.temperature, where=where)
    return values, rows


def of_isogclr(views, rows, where):
    """Losses of two views, and the rows after a visit."""
    given = {"gamma": 0.8, "temperatures": LEARNT._replace(clip=3.0)}
    values, rows, _ = contrastive.isogclr(views, views, rows, **given, where=where)
    return values, rows


STEPS = {"simclr": of_simclr, "isogclr": of_isogclr}


def training_steps(batch_size):
    """``name -> call``, each a compiled step that goes on from where its last call stopped.

    `views` only draws the two views of each image.
    """
    network = models.ProjectedEncoder(
        models.resnet18(None), models.ProjectionHead((PROJECTOR, PROJECTOR), PROJECTOR)
    )
    key = jax.random.key(0, impl="rbg")
    variables = jax.jit(network.init)(key, jnp.zeros((1, 32, 32, 3)))
    embed = embed_views(network, np.full(3, 0.5), np.full(3, 0.25), padded=False)
    images = jax.random.randint(key, (batch_size, 32, 32, 3), 0, 256).astype(jnp.uint8)
    index = jnp.arange(batch_size) * (TABLE // batch_size)
    batch = {"image": images, "index": index, "mask": jnp.ones(batch_size, bool)}
    tx = lars(lambda _: 0.1, 5e-4)

    def stepper(loss):
        def loss_fn(params, extra, rows, batch, key):
            views, extra = embed(params, extra, batch, key)
            values, rows = loss(views, rows, jnp.tile(batch["mask"], 2)[None])
            return values, (extra, rows, {"temperature": rows.temperature})

        state = train.init_state(
            variables["params"],
            tx,
            key=jax.random.key(1),
            extra=variables["batch_stats"],
            tables=contrastive.isogclr_table(TABLE, 0.1),
        )
        step = jax.jit(train.make_train_step(loss_fn, tx), donate_argnums=0)
        held = [jax.tree.map(jnp.copy, state)]

        def call():
            held[0], found = step(held[0], batch)
            return found["loss"]

        return call

    @jax.jit
    def views(key, images):
        return [augment.simclr_view(one, images) for one in jax.random.split(key)]

    steps = {name: stepper(loss) for name, loss in STEPS.items()}
    return steps | {"views": functools.partial(views, jax.random.key(2), images)}


def measure_steps(args):
    """One dict per method and batch size: seconds of each step, and their ratio to SimCLR's."""
    for batch_size in args.batch_sizes:
        calls = training_steps(batch_size)
        seconds = {name: [] for name in calls}
        for turn in range(args.steps + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                jax.block_until_ready(call())
                # The first call compiles.
                seconds[name] += [time.perf_counter() - start] * (turn > 0)
        for name, of_each in seconds.items():
            row = {"step": name, "batch_size": batch_size, "fastest": min(of_each)}
            row["median"] = float(np.median(of_each))
            row["images_per_second"] = batch_size / row["fastest"]
            row["fastest_ratio"] = row["fastest"] / min(seconds["simclr"])
            # Steps beside each other in time, where the machine is shared.
            ratios = np.divide(of_each, seconds["simclr"])
            row["median_of_ratios"] = float(np.median(ratios))
            print(json.dumps(row), flush=True)
            yield row


def main():
    """Prints each measurement as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--block_sizes", type=int, nargs="+", default=[512])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--dense_up_to", type=int, default=8192)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    rows = (
        list(measure_steps(args))
        if args.steps
        else [
            row
            for dtype in args.dtypes
            for batch_size in args.batch_sizes
            for name in args.losses
            for row in measure(name, batch_size, dtype, args)
        ]
    )
    if args.json:
        machine = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
        # Of both sides: XLA and PyTorch take all that the process is given.
        machine["cores"] = len(os.sched_getaffinity(0))
        text = json.dumps(machine | {"width": args.width, "rows": rows}, indent=2)
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
