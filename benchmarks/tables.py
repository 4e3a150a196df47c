"""A table of a million rows against one of a thousand, and memory over thousands of steps.

python benchmarks/tables.py [--rows 1000 1000000] [--steps 3000] [--batch 128]

The same compiled training step, but for the size of the table of `elr_step` or of `isogclr`: a
network of three layers, SGD with momentum, rows gathered and scattered in place. The steps of both
sizes alternate. Prints the median of each, the ratios of medians and of the fastest tenth, and the
resident memory of the process after a tenth of the steps and after all of them.
"""

import argparse
import os
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import contrastive, losses, models, train

CLASSES, FEATURES = 10, 784
LEARNT = contrastive.Temperatures(rho=0.3, step=0.01, momentum=0.9, range=(0.05, 1.0))


def elr(size: int):
    """The loss of a batch with its rows, and their table."""

    def loss(scores, batch, rows):
        return losses.elr_step(scores, batch["label"], rows)

    return loss, losses.elr_table(size, CLASSES)


def isogclr(size: int):
    """Likewise, on the scores as embeddings of two views."""

    def loss(scores, batch, rows):
        first = scores / jnp.linalg.norm(scores, axis=-1, keepdims=True)
        found = contrastive.isogclr(first, first[:, ::-1], rows, gamma=0.8, temperatures=LEARNT)
        return found[0], found[1]

    return loss, contrastive.isogclr_table(size, 0.1)


METHODS = {"elr_step": elr, "isogclr": isogclr}


def training(method, size: int, batch_size: int):
    """A function that takes the next step and waits for it."""
    rng = np.random.default_rng(0)
    model = models.MLP(num_classes=CLASSES, hidden=(256, 256))
    loss, table = method(size)
    tx = optax.sgd(0.01, momentum=0.9)

    def loss_fn(params, extra, rows, batch, key):
        values, rows = loss(model.apply({"params": params}, batch["x"]), batch, rows)
        return values, (extra, rows, {})

    step = jax.jit(train.make_train_step(loss_fn, tx), donate_argnums=0)
    x = rng.normal(size=(batch_size, FEATURES)).astype(np.float32)
    params = model.init(jax.random.key(0), x[:1])["params"]
    state = train.init_state(params, tx, key=jax.random.key(0), tables=table)
    batch = {"x": jnp.asarray(x), "label": jnp.asarray(rng.integers(CLASSES, size=batch_size))}

    def take() -> float:
        nonlocal state
        index = jnp.asarray(rng.integers(size, size=batch_size, dtype=np.int32))
        began = time.perf_counter()
        state = jax.block_until_ready(step(state, batch | {"index": index})[0])
        return time.perf_counter() - began

    take()
    return take


def resident() -> float:
    """MB of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=(1_000, 1_000_000))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}, {jax.devices()[0]}")
    for name, method in METHODS.items():
        both = [training(method, size, options.batch) for size in options.rows]
        seconds: list[list[float]] = [[], []]
        for number in range(options.steps):
            # Each is first as often as the other.
            for index in (0, 1) if number % 2 else (1, 0):
                seconds[index].append(both[index]())
            if number == options.steps // 10:
                early = resident()
        few, many = (1e3 * statistics.median(of) for of in seconds)
        fastest = [np.quantile(of, 0.1) for of in seconds]
        print(
            f"{name}: {few:.2f} ms with {options.rows[0]:,} rows, {many:.2f} ms with "
            f"{options.rows[1]:,}, ratio {many / few:.3f}, of the fastest tenth "
            f"{fastest[1] / fastest[0]:.3f}; {early:.0f} MB after a tenth of {options.steps} steps "
            f"of each, {resident():.0f} MB at the end"
        )


if __name__ == "__main__":
    main()
