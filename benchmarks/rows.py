"""What state per example costs in a training step: losses with rows against cross-entropy.

python benchmarks/rows.py [--model resnet18] [--width 16] [--batch 128] [--examples 50000]
    [--steps 8]

One step is forward, backward and an SGD update with momentum on images of 32x32, with the rows of
the batch gathered from the table of all examples and scattered back, the table's rule for examples
drawn twice included. Prints the fastest of the steps, interleaved in one run, and ratios.
"""

import argparse
import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import losses, models, train

CLASSES = 10
MODELS = {"resnet8": models.resnet8, "resnet18": models.resnet18}


def of_cross_entropy(scores, labels, rows):
    """Without rows."""
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels), rows


METHODS = {
    "cross_entropy": (of_cross_entropy, lambda n: ()),
    "elr_step": (losses.elr_step, lambda n: losses.elr_table(n, CLASSES)),
    "sop_step": (
        functools.partial(losses.sop_step, rate_u=0.08, rate_v=0.08),
        lambda n: losses.sop_table(n, CLASSES, jax.random.key(0)),
    ),
}


def make_step(model, loss):
    """A compiled step of SGD that gives its buffers away."""
    tx = optax.sgd(0.01, momentum=0.9)

    def loss_fn(params, extra, rows, batch, key):
        variables = {"params": params, "batch_stats": extra}
        scores, updated = model.apply(
            variables, batch["image"], train=True, mutable=["batch_stats"]
        )
        values, rows = loss(scores, batch["label"], rows)
        return values, (updated["batch_stats"], rows, {})

    return tx, jax.jit(train.make_train_step(loss_fn, tx), donate_argnums=0)


def main() -> None:
    """Times all methods in turn and prints what the rows cost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    model = MODELS[arguments.model](CLASSES, width=arguments.width)
    images = jnp.float32(rng.normal(size=(arguments.batch, 32, 32, 3)))
    batch = {
        "image": images,
        "label": jnp.int32(rng.integers(CLASSES, size=arguments.batch)),
        "index": jnp.int32(rng.choice(arguments.examples, arguments.batch)),
        "mask": jnp.ones(arguments.batch, bool),
    }
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), images[:1])
    states, steps = {}, {}
    for name, (loss, make_table) in METHODS.items():
        tx, steps[name] = make_step(model, loss)
        states[name] = train.init_state(
            jax.tree.map(jnp.copy, variables["params"]),
            tx,
            key=jax.random.key(0),
            extra=jax.tree.map(jnp.copy, variables["batch_stats"]),
            tables=make_table(arguments.examples),
        )
        states[name] = jax.block_until_ready(steps[name](states[name], batch)[0])
    seconds = {name: [] for name in METHODS}
    for _ in range(arguments.steps):
        for name in METHODS:
            start = time.perf_counter()
            states[name] = jax.block_until_ready(steps[name](states[name], batch)[0])
            seconds[name].append(time.perf_counter() - start)
    print(
        f"{arguments.model} of width {arguments.width}, {arguments.batch} images, "
        f"{arguments.examples} rows; {os.cpu_count()} cores, {jax.devices()[0].device_kind}"
    )
    for name, taken in seconds.items():
        ratio = min(taken) / min(seconds["cross_entropy"])
        print(f"{name:>14}: {1e3 * min(taken):8.1f} ms, {ratio:.3f} of cross-entropy")


if __name__ == "__main__":
    main()
