"""Networks of the comparison in bfloat16: other numbers, near those of float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import comparison
from lnl_jax.comparison.bag_trainings import BagNetwork

LABEL = np.arange(40) % 2
X = np.float32(LABEL[:, None] + np.random.default_rng(0).normal(size=(40, 3)) / 3)


def out_of_fold(dtype):
    return comparison.cross_validated_probabilities(
        X, LABEL, hidden=(4,), folds=2, epochs=3, learning_rates=(0.1,), dtype=dtype
    )


def on_distributions(dtype):
    training = comparison.train_on_distributions(
        X, {"hard": np.eye(2)[LABEL]}, {"test": X}, hidden=(4,), seeds=[0], epochs=3, dtype=dtype
    )
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value["test"]


def on_bags(dtype):
    bags = X.reshape(1, 10, 4, 3), LABEL.reshape(1, 10, 4), LABEL.reshape(1, 10, 4).mean(-1)
    weights = [comparison.BagWeights(labels=1.0, embedding=1.0, proportion=1.0)]
    found = comparison.train_on_bags(
        *bags, X[None], weights, seeds=[0], width=4, epochs=3, dtype=dtype
    )
    assert {values.dtype for values in found} == {np.dtype("float32")}
    return found.test_odds


TRAININGS = {"out of fold": out_of_fold, "distributions": on_distributions, "bags": on_bags}


@pytest.mark.parametrize("name", TRAININGS)
def test_networks_compute_in_the_dtype_that_they_are_given(name):
    plain, same, half = (TRAININGS[name](dtype) for dtype in (None, jnp.float32, jnp.bfloat16))
    np.testing.assert_array_equal(plain, same)
    assert half.dtype == np.float32
    assert np.any(half != plain)
    np.testing.assert_allclose(half, plain, atol=0.05)


def test_subsets_are_learnt_in_the_dtype_that_is_given(monkeypatch):
    from lnl_jax.comparison import subset_trainings

    asked = []
    inner = subset_trainings.models.LaneMLP

    def noted(**fields):
        asked.append(fields["dtype"])
        return inner(**fields)

    monkeypatch.setattr(subset_trainings.models, "LaneMLP", noted)
    found = comparison.train_on_subsets(
        X[:30], LABEL[:30], X[30:], LABEL[30:], trainings=2, epochs=20, dtype=jnp.bfloat16
    )
    assert asked == [jnp.bfloat16]
    assert found.test_correct.mean() > 0.8


def test_a_network_of_bags_multiplies_in_its_dtype():
    model = BagNetwork(4, jnp.bfloat16)
    params = model.init(jax.random.key(0), X[None])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert "bf16" in str(jax.make_jaxpr(functools.partial(model.apply, params))(X[None]))
