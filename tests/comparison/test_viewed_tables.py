"""Tables with views: what is trained on, what is held out, how a view is made."""

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import metrics
from lnl_jax.comparison.representations import (
    LABEL_FREE,
    balanced_probe_accuracy,
    label_free_scores,
)
from lnl_jax.comparison.viewed_tables import dropped_view, held_out_parts
from lnl_jax.evaluation import unit_rows


def test_a_view_drops_its_share_and_keeps_the_mean():
    x = jnp.full((2000, 8), 3.0)
    view = dropped_view(jax.random.key(0), x, drop=0.25, noise=0.5)
    gone = view == 0
    assert abs(float(gone.mean()) - 0.25) < 0.02
    np.testing.assert_allclose(float(view.mean()), 3, atol=0.05)
    np.testing.assert_allclose(float((view[~gone] * 0.75).std()), 0.5, atol=0.02)
    np.testing.assert_array_equal(dropped_view(jax.random.key(0), x, drop=0.0, noise=0.0), x)


def test_parts_share_nothing_and_both_halves_have_every_class():
    labels = np.repeat(np.arange(3), 50)
    pool = {"x": np.arange(150.0)[:, None], "label": labels}
    sizes = {"num_classes": 3, "largest": 20, "test_per_class": 10}
    parts = held_out_parts(pool, 0.25, 0, sizes)
    rows = [set(part["x"][:, 0]) for part in parts.values()]
    assert len(set.union(*rows)) == sum(map(len, rows))
    assert sorted(np.bincount(parts["train"]["label"])) == [5, 10, 20]
    for name in ("validation", "test"):
        assert np.bincount(parts[name]["label"]).tolist() == [5] * 3


def test_a_probe_is_tested_on_every_part_and_classes_count_alike():
    centres, rng = 4 * np.eye(3, dtype=np.float32), np.random.default_rng(0)
    label = np.repeat(np.arange(3), [60, 6, 6])
    found = jnp.asarray(centres[label] + rng.normal(size=(72, 3)), jnp.float32)
    turned = (found, jnp.asarray(label + 1) % 3)
    right, wrong = balanced_probe_accuracy(
        (found, jnp.asarray(label)), (found, label), turned, num_classes=3
    )
    assert right > 0.9
    assert wrong < 0.1


def test_scores_without_labels_are_those_of_the_metrics(rng):
    features = jnp.asarray(rng.normal(size=(12, 5)), jnp.float32)
    first, second = (
        unit_rows(jnp.asarray(each, jnp.float32)) for each in rng.normal(size=(2, 12, 4))
    )
    found = label_free_scores(features, first, second)
    assert list(found) == list(LABEL_FREE)
    assert found["RankMe"] == metrics.effective_rank(features)
    assert found["RankMe of embeddings"] == metrics.effective_rank(first)
    assert found["alignment"] == metrics.alignment(first, second).value
    assert found["uniformity"] == metrics.uniformity(first)
