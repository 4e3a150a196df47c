"""What evaluation of features refuses, and what it makes of labels that are no class."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lnl_jax import evaluation

NAN = float("nan")
KEYS, LABELS = np.eye(3, dtype=np.float32), np.array([0, 1, 1], np.int32)


def knn(labels=LABELS, **changes):
    settings = {"num_classes": 2, "num_neighbours": 3} | changes
    return evaluation.knn_scores(KEYS, KEYS, labels, **settings)


def probe(labels=LABELS, features=KEYS, **changes):
    return evaluation.fit_linear_probe(features, labels, **{"num_classes": 2, "l2": 0.1} | changes)


REFUSED = {
    "a temperature of nan": (lambda: knn(temperature=NAN), "temperature must be above 0, got nan"),
    "a temperature of 0": (lambda: knn(temperature=0.0), "temperature must be above 0"),
    "no classes": (lambda: knn(num_classes=0), "num_classes must be an integer from 1"),
    "no neighbours": (lambda: knn(num_neighbours=0), "num_neighbours must be an integer from 1"),
    "labels of floats": (lambda: knn(jnp.ones(3)), r"labels must be integers of shape \(3,\)"),
    "half a neighbour": (
        lambda: evaluation.nearest(KEYS, KEYS, num_neighbours=0.5),
        "num_neighbours must be an integer from 1 to 3",
    ),
    "keys of integers": (
        lambda: evaluation.nearest(KEYS, KEYS.astype(np.int32), num_neighbours=1),
        "keys must be floating, got int32",
    ),
    "positions of floats": (
        lambda: evaluation.retrieval_ranks(KEYS, KEYS, jnp.ones(3)),
        "positives must be integers",
    ),
    "no penalty": (lambda: probe(l2=0.0), "l2 must be above 0"),
    "a penalty of nan": (lambda: probe(l2=NAN), "l2 must be above 0"),
    "no iterations": (lambda: probe(max_iterations=0), "max_iterations must be an integer from 1"),
    "a tolerance of nan": (lambda: probe(tolerance=NAN), "tolerance must be at least 0"),
    "a column of labels": (lambda: probe(LABELS[:, None]), r"\(3, 1\); drop the last axis"),
    "features of integers": (
        lambda: probe(features=KEYS.astype(np.int32)),
        "features must be floating",
    ),
    "negative weights": (
        lambda: probe(weights=np.array([-1.0, 1, 1])),
        "weights must be at least 0",
    ),
    "a reference of another width": (
        lambda: evaluation.standardize(KEYS, jnp.ones((4, 2))),
        r"shapes \[N, D\] and \[M, D\], got \(3, 3\) and \(4, 2\)",
    ),
    "classes of floats": (
        lambda: evaluation.balanced_weights(jnp.ones(3), num_classes=2),
        "labels must be integers",
    ),
    "no weights": (lambda: probe(weights=np.zeros(3)), "weights must not all be 0"),
    "features of another width": (
        lambda: evaluation.probe_scores(
            evaluation.LinearProbe(jnp.ones((4, 2)), jnp.ones(2), 0.0, 0.0), KEYS
        ),
        r"shape \[N, 4\], as those of the probe; got \(3, 3\)",
    ),
    "descriptions of none": (
        lambda: evaluation.class_embeddings(jnp.ones((2, 0, 3))),
        r"texts must be floating of shape \[K, P, D\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_with_what_to_do(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_key_without_a_class_votes_for_none():
    found = jax.jit(functools.partial(knn, temperature=float("inf")))(np.array([0, -1, 7]))
    np.testing.assert_allclose(found, np.tile([1 / 3, 0], (3, 1)), rtol=1e-6)


def test_without_queries_there_are_no_ranks():
    ranks = jax.jit(evaluation.retrieval_ranks)(KEYS[:0], KEYS, np.zeros(0, int))
    assert ranks.shape == (0,)


def test_a_position_that_no_key_has_is_found_after_all_keys():
    places = np.array([[0, 0], [-1, 3], [3, 2]])
    found = jax.jit(evaluation.retrieval_ranks)(KEYS, KEYS, places)
    assert found.tolist() == [0, 3, 0]


def test_a_label_outside_the_classes_spoils_a_probe_only_where_it_counts():
    @jax.jit
    def weighted(labels, features, weights):
        return probe(labels, features, weights=weights)

    wrong = np.array([0, 1, -1])
    assert np.isnan(weighted(wrong, KEYS, np.ones(3, np.float32)).objective)
    padded = weighted(wrong, KEYS, np.float32([1, 1, 0]))
    fewer = weighted(LABELS[:2], KEYS[:2], np.ones(2, np.float32))
    np.testing.assert_allclose(padded.objective, fewer.objective, rtol=1e-5)


def test_directions_do_not_depend_on_the_length_and_have_finite_slopes_at_0():
    texts = np.float32([[[3, 4]]])
    sizes = np.float32([1e-30, 1, 1e30])[:, None, None]
    found = jax.jit(evaluation.class_embeddings)(sizes * texts)
    np.testing.assert_allclose(found, np.tile([[0.6, 0.8]], (3, 1)), rtol=1e-6)
    slope = jax.jit(jax.grad(lambda texts: evaluation.class_embeddings(texts).sum()))
    assert not np.any(slope(np.zeros((1, 2, 2), np.float32)))
    # The mean of opposite directions has none either.
    assert np.isfinite(slope(np.float32([[[1, 0], [-1, 0]]]))).all()
    of_image = jax.jit(jax.grad(lambda image: evaluation.zero_shot_scores(image, jnp.eye(2)).sum()))
    assert not np.any(of_image(np.zeros((1, 2), np.float32)))


def test_features_on_an_explicit_mesh_name_the_mesh_to_make():
    mesh = jax.make_mesh((2,), ("data",))
    keys = jax.device_put(np.ones((4, 3)), NamedSharding(mesh, PartitionSpec("data")))
    labels = jax.device_put(np.zeros(4, int), NamedSharding(mesh, PartitionSpec("data")))
    for call in (
        lambda: evaluation.nearest(keys, keys, num_neighbours=1),
        lambda: evaluation.knn_scores(keys, keys, labels, num_classes=2),
        lambda: evaluation.retrieval_ranks(keys, keys, labels),
        lambda: evaluation.fit_linear_probe(keys, labels, num_classes=2, l2=0.1),
    ):
        with pytest.raises(ValueError, match=r"Explicit axes; .*train\.data_mesh"):
            call()
