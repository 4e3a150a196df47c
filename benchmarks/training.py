"""A training step of the ResNets against eager PyTorch, interleaved in one run.

python benchmarks/training.py [--models resnet8 resnet18] [--width 16] [--batch 128] [--steps 8]
    [--json FILE]

One step is forward, backward and an SGD update with momentum on images of 32x32, in float32.
Prints, and writes as JSON, images per second of the fastest steps (a machine shared with others
only ever adds time), how long the step took to compile, and what share of a step the reading of
uint8 images by position and their augmentation would take. Without PyTorch its columns are left
out.

ResNet-18 takes long to compile on a CPU; only one program holds it, and its seconds are printed.
There `--models resnet18 --width 16 --batch 32 --steps 4` keeps the steps short.
"""

import argparse
import functools
import json
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import models
from lnl_jax.data import augment

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None

EXAMPLES, CLASSES = 10_000, 10
MODELS = {"resnet8": models.resnet8, "resnet18": models.resnet18}
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
RATE, MOMENTUM = 0.01, 0.9


def make_jax(model, variables):
    """The compiled step, ``(state, images, labels) -> (state, loss)``, and its first state."""
    tx = optax.sgd(RATE, MOMENTUM)

    def step(state, images, labels):
        params, stats, opt_state = state

        def loss(params):
            scores, new = model.apply(
                {"params": params, "batch_stats": stats},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
            return losses.mean(), new["batch_stats"]

        (value, new_stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), new_stats, opt_state), value

    params = variables["params"]
    return step, (params, variables["batch_stats"], tx.init(params))


def prepare(key, images, labels, rows):
    """The batch at these rows of a data set in bytes, cropped, flipped and in floating point."""
    crop, flip = jax.random.split(key)
    batch = augment.random_crop(crop, images[rows], padding=4)
    batch = augment.to_float(augment.random_flip(flip, batch), MEAN, STD)
    return batch, labels[rows]


def make_torch(model, variables, memory_format):
    """The eager step of a network of the same weights, which returns the loss."""
    weights = torch_weights(variables["params"], memory_format)
    leaves = [leaf for layer in weights.values() for leaf in layer]
    stats = {
        name: (torch.zeros(len(layer[0])), torch.ones(len(layer[0])))
        for name, layer in weights.items()
        if name.startswith("BatchNorm")
    }
    sgd = torch.optim.SGD(leaves, RATE, MOMENTUM)
    projected = model.shortcut is models.projected

    def step(images, labels):
        sgd.zero_grad()
        scores = torch_scores(weights, stats, model.blocks, projected, images)
        loss = functional.cross_entropy(scores, labels)
        loss.backward()
        sgd.step()
        return loss.item()

    return step, sum(leaf.numel() for leaf in leaves)


def torch_weights(params, memory_format):
    """Leaves in PyTorch's layout, by the name of the flax layer."""

    def leaf(values, format=torch.contiguous_format):
        tensor = torch.tensor(np.asarray(values)).contiguous(memory_format=format)
        return tensor.requires_grad_()

    weights = {}
    for name, layer in params.items():
        if name.startswith("Conv"):
            weights[name] = (leaf(np.transpose(layer["kernel"], (3, 2, 0, 1)), memory_format),)
        elif name.startswith("BatchNorm"):
            weights[name] = (leaf(layer["scale"]), leaf(layer["bias"]))
        else:
            weights[name] = (leaf(layer["kernel"].T), leaf(layer["bias"]))
    return weights


def torch_scores(weights, stats, blocks, projected, images):
    """The network of `lnl_jax.models.ResNet` in training, layer by layer in flax's numbering."""
    number = iter(range(len(weights)))

    def layer(inputs, stride):
        index = next(number)
        (kernel,) = weights[f"Conv_{index}"]
        norm = f"BatchNorm_{index}"
        padding = kernel.shape[-1] // 2
        outputs = functional.conv2d(inputs, kernel, stride=stride, padding=padding)
        return functional.batch_norm(outputs, *stats[norm], *weights[norm], training=True)

    outputs = functional.relu(layer(images, 1))
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            inputs = outputs
            outputs = layer(functional.relu(layer(inputs, stride)), 1)
            if stride > 1 and projected:
                inputs = layer(inputs, stride)
            elif stride > 1:
                more = outputs.shape[1] - inputs.shape[1]
                inputs = functional.pad(inputs[:, :, ::2, ::2], (0, 0, 0, 0, 0, more))
            outputs = functional.relu(outputs + inputs)
    return functional.linear(outputs.mean((2, 3)), *weights["Dense_0"])


def best_of(calls, steps):
    """Seconds of the fastest call of each function, taken in turns."""
    fastest = dict.fromkeys(calls, float("inf"))
    for _ in range(steps):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            fastest[name] = min(fastest[name], time.perf_counter() - start)
    return fastest


def compiled(function, *arguments):
    """The compiled function with its arguments, and the seconds that compiling took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return functools.partial(program, *arguments), time.perf_counter() - start


def measure(name, width, batch_size, steps):
    """Times of one model, the seconds that its step took to compile, and its parameters."""
    model = MODELS[name](CLASSES, width=width)
    rng = np.random.default_rng(0)
    data = jnp.asarray(rng.integers(256, size=(EXAMPLES, 32, 32, 3)), jnp.uint8)
    targets = jnp.asarray(rng.integers(CLASSES, size=EXAMPLES), jnp.int32)
    rows = jnp.asarray(rng.integers(EXAMPLES, size=batch_size), jnp.int32)
    prepared, _ = compiled(prepare, jax.random.key(0), data, targets, rows)
    images, labels = prepared()
    # The counter-based generator compiles in a fifth of the time of the default one.
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), images[:1])
    step, state = make_jax(model, variables)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

    trained, compile_seconds = compiled(step, state, images, labels)
    functions = {"jax": trained, "data": prepared}
    losses = {"jax": float(functions["jax"]()[1])}
    calls = {n: lambda f=f: jax.block_until_ready(f()) for n, f in functions.items()}
    if torch is not None and jax.default_backend() == "cpu":
        nchw = torch.tensor(np.transpose(images, (0, 3, 1, 2)))
        classes = torch.tensor(np.asarray(labels)).long()
        formats = {"torch": torch.contiguous_format, "torch channels_last": torch.channels_last}
        for column, memory_format in formats.items():
            torch_step, torch_count = make_torch(model, variables, memory_format)
            if torch_count != count:
                raise SystemExit(f"{name}: {count} parameters in JAX, {torch_count} in PyTorch.")
            batch = nchw.contiguous(memory_format=memory_format)
            losses[column] = torch_step(batch, classes)
            calls[column] = functools.partial(torch_step, batch, classes)
    if not np.allclose(list(losses.values()), losses["jax"], rtol=1e-4):
        raise SystemExit(f"{name}: the losses of the same weights differ: {losses}.")
    for call in calls.values():
        call()
    return best_of(calls, steps), compile_seconds, count


def report(seconds, batch_size):
    """Speeds, ratios to PyTorch and the share of the data, from the times of `measure`."""
    record = {
        "seconds": seconds,
        "images_per_second": {n: batch_size / s for n, s in seconds.items() if n != "data"},
        "ratio": {n: seconds["jax"] / s for n, s in seconds.items() if n.startswith("torch")},
        "data_share": seconds["data"] / (seconds["jax"] + seconds["data"]),
    }
    for name, speed in record["images_per_second"].items():
        ratio = record["ratio"].get(name)
        against = "" if ratio is None else f"   jax takes {ratio:5.2f} x its time"
        print(f"  {name:22s} {speed:9.0f} images/s{against}")
    share = f"{100 * record['data_share']:.1f}%"
    print(f"  gather, crop, flip and scaling, run alone: {share} of their time and the step's")
    return record


def main() -> None:
    """Reads the options, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--width", type=int, help="default 16; 64 for resnet18 on accelerators")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=pathlib.Path, help="file to write the numbers to")
    options = parser.parse_args()
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    version = None if torch is None else torch.__version__
    print(
        f"one training step, batch {options.batch}, 32x32x3 float32, fastest of {options.steps} "
        f"interleaved steps, {device.device_kind}, jax {jax.__version__}, torch {version}"
    )
    # XLA and PyTorch take all that the process is given.
    cores = len(os.sched_getaffinity(0))
    threads = None if torch is None else torch.get_num_threads()
    print(f"{cores} cores for JAX, {threads} threads for PyTorch")
    if torch is None:
        print("PyTorch is not installed: its columns are missing.")
    elif not on_cpu:
        print("PyTorch is compared on CPU only.")
    results = {}
    for name in options.models:
        width = options.width or (64 if name == "resnet18" and not on_cpu else 16)
        seconds, compile_seconds, count = measure(name, width, options.batch, options.steps)
        print(f"{name}, width {width}, {count} parameters, compiled in {compile_seconds:.0f} s")
        results[name] = {"width": width, "parameters": count, "compile_seconds": compile_seconds}
        results[name] |= report(seconds, options.batch)
    if options.json:
        record = {
            "command": f"python benchmarks/training.py --models {' '.join(options.models)} "
            f"--batch {options.batch} --steps {options.steps}",
            "batch": options.batch,
            "steps": options.steps,
            "device": device.device_kind,
            "cores": cores,
            "threads of torch": threads,
            "jax": jax.__version__,
            "torch": version,
            "models": results,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
