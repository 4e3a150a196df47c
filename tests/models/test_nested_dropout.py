"""Prefixes of features: their law, their scores, and which of them is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.models import MLP, NestedDropout, best_prefix, prefix_probabilities


@pytest.fixture(scope="module")
def network():
    model = NestedDropout(5, MLP(num_classes=6, hidden=(8,)))
    inputs = jnp.float32(np.random.default_rng(0).normal(size=(7, 4)))
    return model, jax.jit(model.init)(jax.random.key(0), inputs), inputs


def test_a_prefix_is_the_features_that_come_first(network):
    model, variables, inputs = network
    features = np.tanh(model.encoder.apply({"params": variables["params"]["encoder"]}, inputs))
    kernel = np.asarray(variables["params"]["kernel"])
    swept = model.apply(variables, inputs, method="prefix_scores")
    for size in (1, 3, 6):
        expected = features[:, :size] @ kernel[:size]
        found = model.apply(variables, inputs, size=jnp.asarray(size))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(swept[size - 1], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.apply(variables, inputs), swept[-1], rtol=1e-5, atol=1e-6)


def test_the_law_is_a_distribution_that_prefers_few_features():
    law = prefix_probabilities(64, deviation=10.0)
    np.testing.assert_allclose(law.sum(), 1)
    np.testing.assert_allclose(law[9] / law[0], np.exp(-1 + 0.01))
    # A feature is kept the less often the later it comes.
    assert (np.diff(np.cumsum(law[::-1])[::-1]) < 0).all()
    # Far from all features the law stays one.
    np.testing.assert_allclose(prefix_probabilities(3, deviation=0.01, mean=-9.0), [1, 0, 0])


def test_of_equally_good_prefixes_the_shortest_is_chosen():
    assert best_prefix(np.array([0.1, 0.9, 0.9, 0.9])) == 2
    assert best_prefix(np.array([0.1, 0.9, 0.9 + 5e-6, 0.9])) == 2
    assert best_prefix(np.array([0.1, 0.9, 0.91, 0.9])) == 3
    for bad in (np.array([]), np.array([0.5, np.nan]), np.ones((2, 2))):
        with pytest.raises(ValueError, match="accuracies must be finite"):
            best_prefix(bad)
    with pytest.raises(ValueError, match="deviation must be a finite number above 0"):
        prefix_probabilities(3, deviation=0.0)
