"""A sweep against one run at a time, compiled and in eager PyTorch, side by side in one run.

JAX_NUM_CPU_DEVICES=2 python benchmarks/sweep.py [--runs 72] [--steps 100] [--json FILE]

The tabular network of the LDR paper on data of the size of letter, 16-16-16-26, batches of 64,
cross-entropy, SGD with momentum and weight decay; the sweep with its examples in lanes, as the
experiments have them, and in rows. Prints, and writes as JSON, run-epochs of 225 steps per second,
their ratios, and which fraction of the rate of a large matrix product the sweep reaches. Without
PyTorch its column is left out.
"""

import argparse
import functools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ldr_benchmark import make_method, make_trainer, stacked_settings
from experiments.networks import tabular, tabular_in_lanes
from lnl_jax import models, train

try:
    import torch
except ImportError:
    torch = None

COLUMNS, CLASSES, BATCH, STEPS_PER_EPOCH, SETTINGS = 16, 26, 64, 225, 9
SIZES = (COLUMNS, 16, 16, CLASSES)
# Multiply-adds of the forward pass, of the gradient of the weights and of that of the inputs.
PRODUCTS = [a * b for a, b in zip(SIZES[:-1], SIZES[1:], strict=True)]
FLOPS = 2 * BATCH * (2 * sum(PRODUCTS) + sum(PRODUCTS[1:]))


def main():
    """Times all of them and reports."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=72)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json")
    options = parser.parse_args()
    shape = (options.runs, options.steps)
    in_lanes = problem(*shape, models.LaneMLP, tabular_in_lanes, (COLUMNS, 1))
    in_rows = problem(*shape, models.MLP, tabular, (1, COLUMNS))
    *_, parts, plan = in_lanes
    timers = {
        "sweep": functools.partial(time_sweep, *in_lanes),
        "sweep, examples in rows": functools.partial(time_sweep, *in_rows),
        "one at a time": functools.partial(time_alone, *in_lanes),
    }
    if torch is None:
        print("PyTorch is not installed: its column is left out")
    else:
        timers["eager PyTorch"] = functools.partial(time_torch, parts, plan)
    seconds = {name: timer() for name, timer in timers.items()}
    rates = {name: 1 / (each * STEPS_PER_EPOCH) for name, each in seconds.items()}
    peak = matrix_product_rate()
    report = {
        "run-epochs per second": rates,
        "sweep to the others": {name: rates["sweep"] / rate for name, rate in rates.items()},
        "GFLOP/s of a matrix product": peak / 1e9,
        "fraction of it": FLOPS / seconds["sweep"] / peak,
        "runs": options.runs,
        "device": jax.devices()[0].device_kind,
        "devices": jax.local_device_count(),
        "jax": jax.__version__,
    }
    print(json.dumps(report, indent=2))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report, indent=2) + "\n")


def problem(runs, steps, layers, as_network, input_shape):
    """A trainer, its settings, data sets with random labels, and one epoch of `steps` steps."""
    rng, count, size = np.random.default_rng(0), runs // SETTINGS, BATCH * steps
    model = layers(num_classes=CLASSES, hidden=SIZES[1:-1])
    network = as_network(model)
    method = make_method("cross_entropy", np.full(SETTINGS, 0.01).tolist(), network, 10**6)
    x = rng.normal(size=(count, size, COLUMNS)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (count, size)).astype(np.int32)
    params = jax.vmap(lambda seed: model.init(jax.random.key(seed), jnp.zeros(input_shape)))(
        jnp.arange(count)
    )
    training = {"x": x, "label": labels, "clean_label": labels}
    known = {"matrix": np.tile(np.eye(CLASSES, dtype=np.float32), (count, 1, 1))}
    parts = {"train": training, "validation": training, "test": training, "known": known}
    parts |= {"stream": np.arange(count), "params": jax.tree.map(np.asarray, params)}
    position = rng.permutation(size).reshape(steps, 1, BATCH).repeat(count, 1).astype(np.int32)
    rows = {"position": position, "mask": np.ones(position.shape, bool)}
    return (
        make_trainer(method, network, 5e-3, 10**6),
        stacked_settings(method.settings),
        parts,
        rows,
    )


def time_sweep(trainer, settings, parts, plan):
    """Seconds per run and step of the fastest epoch, the first one being compiled."""
    times = [time.perf_counter()]
    chunk = len(parts["stream"])
    for _ in train.run_sweep(
        trainer,
        settings,
        parts,
        lambda epoch: plan,
        epochs=4,
        chunk=chunk,
        report=lambda epoch, steps: times.append(time.perf_counter()),
    ):
        pass
    return np.diff(times)[1:].min() / (len(plan["mask"]) * chunk * SETTINGS)


def time_alone(trainer, settings, parts, plan):
    """One run, its epoch one compiled program."""
    setting, part = (
        jax.tree.map(lambda values: jnp.asarray(values[0]), tree) for tree in (settings, parts)
    )
    rows = {name: jnp.asarray(values[:, 0]) for name, values in plan.items()}

    @jax.jit
    def epoch(part, state, rows):
        def one(state, rows):
            batch = {name: values[rows["position"]] for name, values in part["train"].items()}
            return trainer.step(setting, part, state, batch | {"mask": rows["mask"]}), None

        return jax.lax.scan(one, state, rows)[0]

    state, times = trainer.start(setting, part), []
    for _ in range(5):
        start = time.perf_counter()
        state = jax.block_until_ready(epoch(part, state, rows))
        times.append(time.perf_counter() - start)
    return min(times[1:]) / len(rows["mask"])


def time_torch(parts, plan):
    """One run in eager PyTorch."""
    layers = []
    for before, after in zip(SIZES[:-1], SIZES[1:], strict=True):
        layers += [torch.nn.Linear(before, after), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    loss = torch.nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-3)
    x = torch.tensor(parts["train"]["x"][0])
    labels = torch.tensor(parts["train"]["label"][0], dtype=torch.long)
    batches, times = torch.tensor(plan["position"][:, 0], dtype=torch.long), []
    for _ in range(3):
        start = time.perf_counter()
        for rows in batches:
            sgd.zero_grad()
            loss(model(x[rows]), labels[rows]).backward()
            sgd.step()
        times.append(time.perf_counter() - start)
    return min(times) / len(batches)


def matrix_product_rate(size=1024):
    """Floating-point operations per second of a product of large matrices on all cores."""
    product = jax.jit(lambda a, b: a @ b)
    devices, times = jax.local_devices(), []
    pairs = [jax.device_put((jnp.ones((size, size)),) * 2, device) for device in devices]
    for _ in range(6):
        start = time.perf_counter()
        jax.block_until_ready([product(*pair) for pair in pairs])
        times.append(time.perf_counter() - start)
    return len(devices) * 2 * size**3 / min(times[1:])


if __name__ == "__main__":
    main()
