"""Forward and backward of every loss against optax's cross-entropy, interleaved in one run.

python benchmarks/losses.py [--examples 8192] [--classes 1000] [--calls 25] [--json FILE]

Prints, and writes as JSON, the ratio of the fastest calls: a machine shared with others only ever
adds time.
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

from lnl_jax import losses

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def adaptive_step(logits, labels):
    """One visit of ALDR-KL's Algorithm 1 on fresh rows."""
    return losses.aldr_kl_step(logits, labels, jnp.ones(labels.shape))[0]


def two_views(logits, labels, *, weights):
    """The generalised divergence; its second view is a flatter one."""
    views = jnp.stack([logits, 0.5 * logits])
    return losses.generalized_jensen_shannon(views, labels, weights=weights)


def of_classes(loss, make, name):
    """A loss with an argument that depends on the number of classes."""
    return lambda logits, labels: loss(logits, labels, **{name: make(logits.shape[-1])})


def noisy(num_classes):
    """60% of the labels kept, the others drawn again."""
    return np.float32(0.6 * np.eye(num_classes) + 0.4 / num_classes)


def long_tail(num_classes):
    """Counts from 1000 down to 10."""
    return np.geomspace(1000, 10, num_classes).astype(np.float32)


BASELINE = "cross_entropy (optax)"
agce = losses.asymmetric_generalized_cross_entropy
huberised = losses.partially_huberised_cross_entropy
LOSSES = {
    BASELINE: cross_entropy,
    "generalized_cross_entropy": losses.generalized_cross_entropy,
    "ldr_kl": losses.ldr_kl,
    "ldr_kl, margin 0.1": functools.partial(losses.ldr_kl, margin=0.1),
    "ldr_kl, top_k 5": functools.partial(losses.ldr_kl, top_k=5),
    "aldr_kl_step": adaptive_step,
    "aldr_kl": losses.aldr_kl,
    "asymmetric_exponential": functools.partial(losses.asymmetric_exponential, a=2.5),
    "asymmetric_generalized_cross_entropy": functools.partial(agce, a=3.0, q=1.5),
    "asymmetric_unhinged": functools.partial(losses.asymmetric_unhinged, a=6.0, q=1.5),
    "backward_correction": of_classes(losses.backward_correction, noisy, "matrix"),
    "bi_tempered_logistic": functools.partial(losses.bi_tempered_logistic, t1=0.8, t2=1.2),
    "crammer_singer": losses.crammer_singer,
    "forward_correction": of_classes(losses.forward_correction, noisy, "matrix"),
    "generalized_jensen_shannon": functools.partial(two_views, weights=(0.3, 0.35, 0.35)),
    "hard_bootstrap": functools.partial(losses.hard_bootstrap, weight=0.8),
    "jensen_shannon": functools.partial(losses.jensen_shannon, weight=0.5),
    "ldam": of_classes(losses.ldam, long_tail, "class_counts"),
    "mean_absolute_error": losses.mean_absolute_error,
    "mean_squared_error": losses.mean_squared_error,
    "normalized_cross_entropy": losses.normalized_cross_entropy,
    "normalized_focal": functools.partial(losses.normalized_focal, gamma=0.5),
    "partially_huberised_cross_entropy": functools.partial(huberised, temperature=10.0),
    "reverse_cross_entropy": losses.reverse_cross_entropy,
    "robust_log_loss": functools.partial(losses.robust_log_loss, alpha=0.1),
    "soft_bootstrap": functools.partial(losses.soft_bootstrap, weight=0.95),
    "symmetric_cross_entropy": functools.partial(
        losses.symmetric_cross_entropy, alpha=0.1, beta=1.0
    ),
    "taylor_cross_entropy": functools.partial(losses.taylor_cross_entropy, order=2),
    "truncated_generalized_cross_entropy": losses.truncated_generalized_cross_entropy,
    "weston_watkins": losses.weston_watkins,
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
        print(f"{name:38s} {1e3 * seconds:8.1f} ms   {seconds / fastest[BASELINE]:5.2f} x")
    if options.json:
        record = {
            "command": "python benchmarks/losses.py",
            "examples": options.examples,
            "classes": options.classes,
            "calls": options.calls,
            "device": device.device_kind,
            "cores": len(os.sched_getaffinity(0)),
            "jax": jax.__version__,
            "seconds": fastest,
            "ratio": {name: seconds / fastest[BASELINE] for name, seconds in fastest.items()},
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
