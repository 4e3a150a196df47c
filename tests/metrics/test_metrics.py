import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as peer

from lnl_jax import metrics
from lnl_jax.metrics import Average, class_mean, merge, per_class_accuracy, top_k_accuracy

EXAMPLES, CLASSES = 60, 5


@pytest.fixture
def drawn(rng):
    """Scores, labels and true labels, of which a third are false."""
    logits = np.float32(rng.normal(size=(EXAMPLES, CLASSES)))
    clean = rng.integers(CLASSES, size=EXAMPLES)
    labels = np.where(np.arange(EXAMPLES) % 3 == 0, (clean + 1) % CLASSES, clean)
    return logits, labels.astype(np.int32), clean.astype(np.int32)


def memorized(logits, labels, **kwargs):
    """`memorization` in the form of the other metrics: the next class was the true one."""
    return memorization(logits, labels, (labels + labels % 2) % CLASSES, **kwargs)


def in_top_two(logits, labels, **kwargs):
    return top_k_accuracy(logits, labels, 2, **kwargs)


# Compiled whole, which takes less time than operation by operation.
accuracy, negative_log_likelihood, memorization, brier_score = map(
    jax.jit,
    (metrics.accuracy, metrics.negative_log_likelihood, metrics.memorization, metrics.brier_score),
)
METRICS = [
    pytest.param(metric, id=metric.__name__)
    for metric in (accuracy, negative_log_likelihood, jax.jit(memorized))
]
# These are averaged by the same function: it is enough to see once that they are.
ALL_METRICS = METRICS + [
    pytest.param(metric, id=metric.__name__) for metric in (jax.jit(in_top_two), brier_score)
]


def test_accuracy_is_that_of_scikit_learn(drawn):
    logits, labels, _ = drawn
    expected = peer.accuracy_score(labels, logits.argmax(1))
    np.testing.assert_allclose(accuracy(logits, labels).value, expected, rtol=1e-6)
    assert accuracy(logits, labels).count == EXAMPLES


@pytest.mark.parametrize("scale", [1, 5])
def test_negative_log_likelihood_is_that_of_scikit_learn(drawn, scale):
    logits, labels, _ = drawn
    found = negative_log_likelihood(scale * logits, labels).value
    probabilities = special.softmax(scale * np.asarray(logits, np.float64), axis=1)
    expected = peer.log_loss(labels, probabilities, labels=np.arange(CLASSES))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_memorization_is_the_accuracy_on_false_labels_alone(drawn):
    logits, labels, clean = drawn
    false = np.asarray(labels != clean)
    found = memorization(logits, labels, clean)
    expected = peer.accuracy_score(labels[false], logits.argmax(1)[false])
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)
    assert found.count == 20


@pytest.mark.parametrize("metric", ALL_METRICS)
def test_masked_examples_equal_removed_ones_whatever_they_hold(drawn, rng, metric):
    logits, labels, _ = drawn
    where = rng.uniform(size=EXAMPLES) < 0.6
    spoiled = np.where(where[:, None], logits, np.nan)
    found = metric(spoiled, labels, where=where)
    expected = metric(logits[where], labels[where])
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-5)
    assert found.count == expected.count
    assert 0 < found.count < EXAMPLES


@pytest.mark.parametrize("metric", METRICS)
def test_merged_uneven_batches_equal_the_whole(drawn, metric):
    logits, labels, _ = drawn
    parts = np.split(np.arange(EXAMPLES), [7, 50])
    merged = functools.reduce(merge, (metric(logits[part], labels[part]) for part in parts))
    whole = metric(logits, labels)
    np.testing.assert_allclose(merged.value, whole.value, rtol=1e-5)
    assert merged.count == whole.count


def test_merge_adds_averages_anywhere_in_a_tree():
    one = {
        "a": Average(jnp.float32(1), jnp.float32(2)),
        "b": [Average(jnp.float32(3), jnp.ones(()))],
    }
    both = merge(one, one)
    assert jax.tree.structure(both) == jax.tree.structure(one)
    assert (both["a"].value, both["b"][0].total, both["b"][0].count) == (0.5, 6, 2)


@pytest.mark.parametrize("metric", METRICS)
def test_the_value_is_nan_where_nothing_was_counted_and_counts_nothing_when_merged(drawn, metric):
    logits, labels, _ = drawn
    nothing = metric(logits, labels, where=np.zeros(EXAMPLES, bool))
    assert (nothing.total, nothing.count) == (0, 0)
    assert np.isnan(nothing.value)
    whole = metric(logits, labels)
    assert merge(nothing, whole).value == whole.value


def test_clean_labels_have_no_memorization(drawn):
    logits, _, clean = drawn
    assert np.isnan(memorization(logits, clean, clean).value)


def test_the_value_of_nothing_has_a_finite_gradient():
    gradient = jax.grad(lambda total: Average(total, jnp.float32(0)).value)(jnp.float32(0))
    assert jnp.isfinite(gradient)


@pytest.mark.parametrize("metric", ALL_METRICS)
def test_any_batch_shape_counts_every_example(drawn, metric):
    logits, labels, _ = drawn
    folded = metric(logits.reshape(4, 15, CLASSES), labels.reshape(4, 15))
    np.testing.assert_allclose(folded, metric(logits, labels), rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_scores_are_summed_in_float32(drawn, metric):
    logits, labels, _ = drawn
    many = np.tile(logits, (100, 1)).astype(jnp.bfloat16)
    found = metric(many, np.tile(labels, 100))
    expected = metric(many.astype(np.float32), np.tile(labels, 100))
    assert found.total.dtype == found.count.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_jit_and_vmap_measure_every_model_on_its_own(drawn, metric):
    logits, labels, _ = drawn
    models = np.stack([logits, -logits, logits[::-1]])
    found = jax.jit(jax.vmap(metric, in_axes=(0, None)))(models, labels)
    for index, model in enumerate(models):
        np.testing.assert_allclose(found.value[index], metric(model, labels).value, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int32])
def test_labels_of_any_integer_dtype_are_not_confused_with_classes_beyond_it(dtype):
    predictions, labels = np.array([0, 127, 256, 299]), np.array([0, 127, 0, 43]).astype(dtype)
    logits = np.eye(300, dtype=np.float32)[predictions]
    assert accuracy(logits, labels).total == 2
    assert memorization(logits, labels, labels + np.ones((), dtype)).total == 2


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_outside_the_classes_has_no_likelihood(drawn, label):
    logits, labels, _ = drawn
    spoiled = np.where(np.arange(EXAMPLES) == 3, np.int32(label), labels)
    assert np.isnan(negative_log_likelihood(logits, spoiled).value)
    assert accuracy(logits, np.full_like(labels, label)).total == 0


@pytest.mark.parametrize(
    "metric", [accuracy, negative_log_likelihood, in_top_two, brier_score, per_class_accuracy]
)
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda labels: labels[:-1], r"int32 of shape \(59,\)"),
        (lambda labels: labels[:, None], r"int32 of shape \(60, 1\)"),
        (lambda labels: labels[0], r"int32 of shape \(\)"),
        (lambda labels: labels.astype(jnp.float32), r"float32 of shape \(60,\)"),
    ],
)
def test_labels_of_another_form_raise_with_both_shapes(drawn, metric, spoil, text):
    logits, labels, _ = drawn
    with pytest.raises(ValueError, match=rf"labels must be integers of shape \(60,\).*got {text}"):
        metric(logits, spoil(labels))
    for both in ((labels, spoil(labels)), (spoil(labels), labels)):
        with pytest.raises(ValueError, match=rf"shape \(60,\).*got {text}"):
            memorization(logits, *both)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(EXAMPLES - 1,), (1,), (), (EXAMPLES, 1), (EXAMPLES, CLASSES)])
def test_a_mask_of_another_shape_raises_with_both_shapes(drawn, metric, shape):
    logits, labels, _ = drawn
    text = f"where must have one entry per example, shape (60,); got {shape}"
    with pytest.raises(ValueError, match=re.escape(text)):
        metric(logits, labels, where=np.ones(shape, bool))


in_top = jax.jit(top_k_accuracy, static_argnums=2)
by_class = jax.jit(per_class_accuracy)


@pytest.mark.parametrize("k", [1, 2])
def test_top_k_accuracy_is_that_of_scikit_learn(drawn, k):
    logits, labels, _ = drawn
    expected = peer.top_k_accuracy_score(labels, logits, k=k, labels=range(CLASSES))
    found = in_top(logits, labels, k)
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)
    assert found.count == EXAMPLES


@pytest.mark.parametrize("k", [1, 2])
def test_equal_scores_rank_in_the_order_of_the_classes(drawn, k):
    logits, labels, _ = drawn
    logits, labels = np.round(logits), np.asarray(labels)
    first = np.argsort(-logits, 1, stable=True)[:, :k]
    assert len(np.unique(logits)) < 12
    expected = (first == labels[:, None]).any(1).sum()
    np.testing.assert_array_equal(in_top(logits, labels, k).total, expected)
    indifferent = in_top(np.zeros_like(logits), labels, k)
    np.testing.assert_array_equal(indifferent.total, (labels < k).sum())
    if k == 1:
        assert in_top(logits, labels, 1).total == accuracy(logits, labels).total


@pytest.mark.parametrize(
    ("scores", "ranks"),
    [
        # The place of each class, 4 where it is in no top 3.
        ([jnp.nan, 1.0, 0.0], [4, 2, 3]),
        ([0.0, jnp.nan, -jnp.inf], [2, 4, 3]),
        ([jnp.inf, -jnp.inf, jnp.inf], [1, 3, 2]),
        ([jnp.nan, jnp.nan, jnp.nan], [4, 4, 4]),
    ],
)
def test_a_nan_score_is_never_correct_and_ranks_before_numbers(scores, ranks):
    logits, labels = np.tile(np.float32(scores), (3, 1)), np.arange(3, dtype=np.int32)
    for k in (1, 2, 3):
        assert in_top(logits, labels, k).total == sum(rank <= k for rank in ranks)


@pytest.mark.parametrize("k", [0, CLASSES + 1, 2.0, True])
def test_a_k_out_of_range_raises(drawn, k):
    with pytest.raises(
        ValueError, match=f"k must be .* from 1 to the number of classes, 5; got {k}"
    ):
        top_k_accuracy(*drawn[:2], k)


def test_the_mean_over_classes_is_the_balanced_accuracy_of_scikit_learn(drawn):
    logits, labels, _ = drawn
    # Unbalanced, and without the last class; predictions are then of classes that occur as well.
    labels = np.where(labels == 4, 0, labels)
    logits = np.where(np.arange(CLASSES) == 4, -np.inf, logits)
    found = by_class(logits, labels)
    expected = peer.balanced_accuracy_score(labels, logits.argmax(1))
    np.testing.assert_allclose(class_mean(found), expected, rtol=1e-6)
    recalls = peer.recall_score(labels, logits.argmax(1), average=None)
    np.testing.assert_allclose(found.value[:4], recalls, rtol=1e-6)
    assert np.isnan(found.value[4])
    np.testing.assert_array_equal(found.count, np.bincount(labels, minlength=CLASSES))


def test_merged_batches_of_different_classes_have_the_class_mean_of_the_whole(drawn, rng):
    logits, labels = np.asarray(drawn[0]), np.asarray(drawn[1])
    order = np.argsort(labels)
    where = rng.uniform(size=EXAMPLES) < 0.7
    whole = by_class(logits[where], labels[where])
    parts = [
        by_class(np.where(where[part, None], logits[part], np.nan), labels[part], where=where[part])
        for part in np.split(order, [20, 40])
    ]
    merged = functools.reduce(merge, parts)
    np.testing.assert_array_equal(merged, whole)
    assert class_mean(merged) == class_mean(whole)
    means = np.mean([class_mean(part) for part in parts])
    assert abs(means - class_mean(whole)) > 1e-3


def test_class_accuracies_add_up_to_the_accuracy(drawn):
    logits, labels, _ = drawn
    found = by_class(logits.reshape(4, 15, CLASSES), labels.reshape(4, 15))
    whole = accuracy(logits, labels)
    assert (found.total.sum(), found.count.sum()) == (whole.total, whole.count)


def test_labels_of_no_class_count_in_no_class(drawn):
    logits, labels = np.asarray(drawn[0]), np.array(drawn[1])
    counted = np.arange(EXAMPLES) > 1
    expected = by_class(logits, labels, where=counted)
    labels[:2] = -1, CLASSES
    np.testing.assert_array_equal(by_class(logits, labels), expected)
    nothing = by_class(logits, labels, where=np.zeros(EXAMPLES, bool))
    assert np.isnan(class_mean(nothing))


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_outside_the_classes_has_no_brier_score_and_is_in_no_top(drawn, label):
    logits, labels = np.asarray(drawn[0]), np.array(drawn[1])
    labels[3] = label
    assert np.isnan(brier_score(logits, labels).value)
    assert in_top(logits, np.full_like(labels, label), 2).total == 0
