"""Forward and backward of every loss against optax's cross-entropy, interleaved in one run.

python benchmarks/losses.py [--examples 8192] [--classes 1000] [--calls 25] [--json FILE]

Prints, and writes as JSON, the ratio of the fastest calls: a machine shared with others only ever
adds time.
"""

import argparse
import functools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import losses

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def adaptive_step(logits, labels):
    """One visit of ALDR-KL's Algorithm 1 on fresh rows."""
    return losses.aldr_kl_step(logits, labels, jnp.ones(labels.shape))[0]


BASELINE = "cross_entropy (optax)"
LOSSES = {
    BASELINE: cross_entropy,
    "generalized_cross_entropy": losses.generalized_cross_entropy,
    "ldr_kl": losses.ldr_kl,
    "ldr_kl, margin 0.1": functools.partial(losses.ldr_kl, margin=0.1),
    "ldr_kl, top_k 5": functools.partial(losses.ldr_kl, top_k=5),
    "aldr_kl_step": adaptive_step,
    "aldr_kl": losses.aldr_kl,
}


def compiled(loss):
    """Value and gradient of the mean."""
    return jax.jit(jax.value_and_grad(lambda logits, labels: loss(logits, labels).mean()))


def measure(examples: int, classes: int, calls: int) -> dict[str, float]:
    """Seconds of the fastest of `calls` calls of each loss, taken in turns."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(3 * rng.normal(size=(examples, classes)), jnp.float32)
    labels = jnp.asarray(rng.integers(classes, size=examples), jnp.int32)
    functions = {name: compiled(loss) for name, loss in LOSSES.items()}
    for function in functions.values():
        jax.block_until_ready(function(logits, labels))
    fastest = dict.fromkeys(functions, float("inf"))
    for _ in range(calls):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(logits, labels))
            fastest[name] = min(fastest[name], time.perf_counter() - start)
    return fastest


def main() -> None:
    """Reads the options, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=8192)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=25)
    parser.add_argument("--json", type=pathlib.Path, help="file to write the numbers to")
    options = parser.parse_args()
    fastest = measure(options.examples, options.classes, options.calls)
    device = jax.devices()[0]
    print(
        f"forward + backward, [{options.examples}, {options.classes}] float32, fastest of "
        f"{options.calls} interleaved calls, {device.device_kind}, jax {jax.__version__}"
    )
    for name, seconds in fastest.items():
        print(f"{name:28s} {1e3 * seconds:8.1f} ms   {seconds / fastest[BASELINE]:5.2f} x")
    if options.json:
        record = {
            "command": "python benchmarks/losses.py",
            "examples": options.examples,
            "classes": options.classes,
            "calls": options.calls,
            "device": device.device_kind,
            "jax": jax.__version__,
            "seconds": fastest,
            "ratio": {name: seconds / fastest[BASELINE] for name, seconds in fastest.items()},
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
