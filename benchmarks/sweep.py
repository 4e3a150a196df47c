"""A sweep against one run at a time, compiled and in eager PyTorch, interleaved, and per core.

JAX_NUM_CPU_DEVICES=1 taskset -c 0 python benchmarks/sweep.py
JAX_NUM_CPU_DEVICES=2 python benchmarks/sweep.py [--runs 72] [--steps 100] [--rounds 5]
    [--json FILE]

The tabular network of the LDR paper on data of the size of letter, 16-16-16-26, batches of 64,
cross-entropy, SGD with momentum and weight decay; the sweep with its examples in lanes, as the
experiments have them, with XLA's own width of vectors, and in rows. Prints, and writes as JSON, for
each side its run-epochs of 225 steps per second, how many cores it kept busy (seconds of processor
time per second) and its run-epochs per second of one core, of which the ratios are. The limit of so
small a network is the time of its tanh and exp alone, and of its products at the rate of a large
one, measured in the same run. By taskset all sides have one core; on several, XLA splits the small
products of one run at a time over threads that wait for each other. The fastest of the rounds
counts: a machine shared with others only ever adds time. Without PyTorch its column is left out.
"""

import argparse
import functools
import json
import os
import pathlib
import time
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import models, train
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.methods import measure, robust_loss
from lnl_jax.comparison.networks import initial_variables, tabular, tabular_in_lanes
from lnl_jax.comparison.runs import make_trainer, stack_settings
from lnl_jax.train import chunks, lockstep

try:
    import torch
except ImportError:
    torch = None

COLUMNS, CLASSES, BATCH, STEPS_PER_EPOCH, SETTINGS = 16, 26, 64, 225, 9
SIZES = (COLUMNS, 16, 16, CLASSES)
# Multiply-adds of the forward pass, of the gradient of the weights and of that of the inputs.
PRODUCTS = [a * b for a, b in zip(SIZES[:-1], SIZES[1:], strict=True)]
FLOPS = 2 * BATCH * (2 * sum(PRODUCTS) + sum(PRODUCTS[1:]))


# Of one run at a time: before the clock starts, and by the clock.
EPOCHS_BEFORE, EPOCHS_ALONE = 5, 20
# What so small a network is made of besides products; its logarithm is of one number per example.
ELEMENTS = {"tanh": BATCH * sum(SIZES[1:-1]), "exp": BATCH * CLASSES}
# Applied again and again they stay between -1 and 1.
FUNCTIONS = {"tanh": jnp.tanh, "exp": lambda x: jnp.exp(-jnp.abs(x))}


def main():
    """Times all of them and reports."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=72)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    shape = (options.runs, options.steps)
    in_lanes = problem(*shape, models.LaneMLP, tabular_in_lanes, (COLUMNS, 1))
    narrow = problem(*shape, models.LaneMLP, tabular_in_lanes, (COLUMNS, 1))
    in_rows = problem(*shape, models.MLP, tabular, (1, COLUMNS))
    sides = {
        "sweep": functools.partial(run_sweep, *in_lanes),
        "sweep, XLA's width of vectors": functools.partial(run_narrow_sweep, *narrow),
        "sweep, examples in rows": functools.partial(run_sweep, *in_rows),
        "one at a time": one_at_a_time(*in_lanes),
    }
    if torch is None:
        print("PyTorch is not installed: its column is left out")
    else:
        sides["eager PyTorch"] = in_torch(*in_lanes[2:])
    report = compared(interleaved(sides, options.rounds))
    report["limits"] = limits(report["sides"]["sweep"], options.rounds)
    report |= {
        "runs": options.runs,
        "cores given": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
        "devices": jax.local_device_count(),
        "jax": jax.__version__,
    }
    if torch is not None:
        report["torch"] = torch.__version__
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


class Taken(NamedTuple):
    """Seconds on the clock and of all processors that some steps of runs took."""

    wall: float
    processor: float
    steps: int


def taken(function, steps):
    """What a function takes that makes so many steps of runs."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return Taken(time.perf_counter() - wall, time.process_time() - processor, steps)


def interleaved(sides, rounds):
    """The fastest of each side, on the clock and by processor: ``{name: (wall, processor)}``."""
    for side in sides.values():
        side()
    found = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side())
    return {
        name: tuple(
            min(getattr(each, clock) / each.steps for each in all_rounds)
            for clock in ("wall", "processor")
        )
        for name, all_rounds in found.items()
    }


def compared(seconds):
    """Rates and ratios from the seconds per run and step."""
    sides = {
        name: {
            "run-epochs per second": 1 / (wall * STEPS_PER_EPOCH),
            "cores": processor / wall,
            "run-epochs per second of one core": 1 / (processor * STEPS_PER_EPOCH),
            "microseconds of one core per run and step": 1e6 * processor,
        }
        for name, (wall, processor) in seconds.items()
    }
    ratios = {name: each[1] / seconds["sweep"][1] for name, each in seconds.items()}
    return {"sides": sides, "sweep to the others, per core": ratios}


def limits(swept, rounds):
    """What the parts of a step take alone, on one core, in microseconds, and their share."""
    alone = {
        name: 1e6 * count * seconds_per_element(FUNCTIONS[name], rounds)
        for name, count in ELEMENTS.items()
    }
    alone["products"] = 1e6 * FLOPS / matrix_product_rate(rounds)
    whole = swept["microseconds of one core per run and step"]
    return {
        "microseconds": alone,
        "tanh and exp, of the sweep": (alone["tanh"] + alone["exp"]) / whole,
        "all three, of the sweep": sum(alone.values()) / whole,
    }


def problem(runs, steps, layers, as_network, input_shape):
    """A trainer, its settings, data sets with random labels, and one epoch of `steps` steps."""
    rng, count, size = np.random.default_rng(0), runs // SETTINGS, BATCH * steps
    model = layers(num_classes=CLASSES, hidden=SIZES[1:-1])
    network = as_network(model)
    method = robust_loss(
        LOSSES["cross_entropy"], [0.01] * SETTINGS, network=network, total_steps=10**6
    )
    x = rng.normal(size=(count, size, COLUMNS)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (count, size)).astype(np.int32)
    params = initial_variables(model, jnp.zeros(input_shape), range(count))
    training = {"x": x, "label": labels, "clean_label": labels}
    known = {"matrix": np.tile(np.eye(CLASSES, dtype=np.float32), (count, 1, 1))}
    parts = {"train": training, "validation": training, "test": training, "known": known}
    parts |= {"seed": np.arange(count), "params": jax.tree.map(np.asarray, params)}
    position = rng.permutation(size).reshape(steps, 1, BATCH).repeat(count, 1).astype(np.int32)
    rows = {"position": position, "mask": np.ones(position.shape, bool)}
    schedule = train.staircase_schedule(10**6)
    trainer = make_trainer(method, schedule, functools.partial(measure, network), weight_decay=5e-3)
    return trainer, stack_settings(method.settings), parts, rows


def run_sweep(trainer, settings, parts, plan):
    """The second call of a sweep of two; the first one waits for what is compiled or copied."""
    chunk, calls = len(parts["seed"]), []

    def report(epoch, steps):
        calls.append((time.perf_counter(), time.process_time(), steps))

    # As many epochs as go into two calls, whatever their length.
    epochs = 2 * max(chunks.STEPS_PER_CALL // len(plan["mask"]), 1)
    runs = train.in_chunks(
        trainer, settings, parts, lambda epoch: plan, epochs=epochs, chunk=chunk, report=report
    )
    for _ in runs:
        pass
    (*before, _), (*after, steps) = calls
    return Taken(*np.subtract(after, before), steps)


def run_narrow_sweep(*arguments):
    """The same, compiled as XLA would by itself."""
    with mock.patch.object(lockstep, "WIDE_VECTORS", {}):
        return run_sweep(*arguments)


def one_at_a_time(trainer, settings, parts, plan):
    """One run, its epoch one compiled program."""
    setting, part = (
        jax.tree.map(lambda values: jnp.asarray(values[0]), tree) for tree in (settings, parts)
    )
    rows = {name: jnp.asarray(values[:, 0]) for name, values in plan.items()}

    @jax.jit
    def epoch(part, state, rows):
        def one(state, rows):
            batch = {name: values[rows["position"]] for name, values in part["train"].items()}
            return trainer.step(setting, part, state, batch | {"mask": rows["mask"]})[0], None

        return jax.lax.scan(one, state, rows)[0]

    start = trainer.start(setting, part)

    def epochs(count):
        state = start
        for _ in range(count):
            state = epoch(part, state, rows)
        jax.block_until_ready(state)

    def after_some():
        # The first ones after another side find the caches cold.
        epochs(EPOCHS_BEFORE)
        return taken(lambda: epochs(EPOCHS_ALONE), EPOCHS_ALONE * len(rows["mask"]))

    return after_some


def in_torch(parts, plan):
    """One run in eager PyTorch."""
    layers = []
    for before, after in zip(SIZES[:-1], SIZES[1:], strict=True):
        layers += [torch.nn.Linear(before, after), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    loss = torch.nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-3)
    x = torch.tensor(parts["train"]["x"][0])
    labels = torch.tensor(parts["train"]["label"][0], dtype=torch.long)
    batches = torch.tensor(plan["position"][:, 0], dtype=torch.long)

    def epoch():
        for rows in batches:
            sgd.zero_grad()
            loss(model(x[rows]), labels[rows]).backward()
            sgd.step()

    return lambda: taken(epoch, len(batches))


def seconds_per_element(function, rounds, size=2**15, repeats=200):
    """Seconds of one core for a function of one number, on an array that fits a cache."""
    repeated = jax.jit(
        lambda x: jax.lax.fori_loop(0, repeats, lambda _, x: function(x), x),
    )
    x = jnp.linspace(-1, 1, size)
    return fastest(lambda: repeated(x), rounds) / (repeats * size)


def matrix_product_rate(rounds, size=1024):
    """Floating-point operations per second of one core in a product of large matrices."""
    product = jax.jit(lambda a, b: a @ b)
    a = jnp.ones((size, size))
    return 2 * size**3 / fastest(lambda: product(a, a), rounds)


def fastest(function, rounds):
    """The least processor time of a function, compiled before."""
    jax.block_until_ready(function())
    return min(taken(lambda: jax.block_until_ready(function()), 1).processor for _ in range(rounds))


if __name__ == "__main__":
    main()
