"""Batches that are split over devices: nobody waits, and what a loss returns does not change."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lnl_jax import losses
from lnl_jax.train import data_mesh
from tests.losses.cases import CASES
from tests.losses.test_contract import UNLIKE, parameters

EXAMPLES = 4
# Beyond FEW_CLASSES the label's score is looked up.
CLASSES = {"few": 5, "many": 130}
COLLECTIVES = r"\b(all-reduce|all-gather|all-to-all|collective-\w+|reduce-scatter)(-start)?\("
ADAPTIVE = {
    "ldr_kl": lambda logits, labels: losses.ldr_kl(logits, labels, margin=0.1),
    "ldr_kl_top_2": lambda logits, labels: losses.ldr_kl(logits, labels, top_k=2),
    "ldr_kl_top_4": lambda logits, labels: losses.ldr_kl(logits, labels, top_k=4),
    "aldr_kl": lambda logits, labels: losses.aldr_kl(logits, labels, alpha=1.3),
    "aldr_kl_step": lambda logits, labels: losses.aldr_kl_step(
        logits, labels, jnp.zeros_like(logits[..., 0]) + 0.9
    )[0],
    "bi_tempered_logistic": lambda logits, labels: losses.bi_tempered_logistic(
        logits, labels, t1=0.7, t2=1.3
    ),
}


def value_and_gradient(loss):
    def both(logits, labels):
        found, pullback = jax.vjp(lambda logits: loss(logits, labels), logits)
        return found, pullback(jnp.ones_like(found))[0]

    return both


@functools.cache
def on_one_device(loss):
    return jax.jit(value_and_gradient(loss))(*drawn(np.random.default_rng(0)))


def drawn(rng, classes=5):
    logits = jnp.float32(2 * rng.normal(size=(EXAMPLES, classes)))
    return logits, jnp.asarray(rng.integers(classes, size=EXAMPLES), jnp.int32)


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("case", parameters(CASES, (*ADAPTIVE, *UNLIKE)))
def test_devices_that_share_a_batch_need_not_talk_to_each_other(case, rng, classes):
    """As told by the compiled program of value and gradient, for labels of both forms."""
    logits, integers = drawn(rng, classes)
    by_example = NamedSharding(data_mesh(2), PartitionSpec("data"))

    def both_forms(logits, integers, distributions):
        function = value_and_gradient(case)
        return function(logits, integers), function(logits, distributions)

    program = (
        jax.jit(both_forms, in_shardings=by_example, out_shardings=by_example)
        .lower(logits, integers, jax.nn.softmax(logits))
        .compile()
        .as_text()
    )
    assert "num_partitions=2" in program
    assert not re.findall(COLLECTIVES, program)


@pytest.mark.parametrize("loss", ADAPTIVE.values(), ids=ADAPTIVE)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_batch_in_shards_has_the_losses_of_the_whole(loss, kind, rng):
    """Split by hand with `shard_map`, and as an array of a mesh of either kind."""
    logits, labels = drawn(rng)
    function = value_and_gradient(loss)
    expected = on_one_device(loss)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    by_example = PartitionSpec("data")
    split = jax.device_put((logits, labels), NamedSharding(mesh, by_example))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=by_example, out_specs=by_example)
    both = jax.jit(lambda *split: (mapped(*split), function(*split)))
    for found in both(*split):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-6)
