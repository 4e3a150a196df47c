import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as reference

from lnl_jax.metrics import Average, accuracy, memorization, merge, negative_log_likelihood

EXAMPLES, CLASSES = 60, 5


@pytest.fixture
def drawn(rng):
    """Scores, labels and true labels, of which a third are false."""
    logits = np.float32(rng.normal(size=(EXAMPLES, CLASSES)))
    clean = rng.integers(CLASSES, size=EXAMPLES)
    labels = np.where(np.arange(EXAMPLES) % 3 == 0, (clean + 1) % CLASSES, clean)
    return jnp.asarray(logits), jnp.asarray(labels, jnp.int32), jnp.asarray(clean, jnp.int32)


def memorized(logits, labels, **kwargs):
    """`memorization` in the form of the other metrics: the next class was the true one."""
    return memorization(logits, labels, (labels + labels % 2) % CLASSES, **kwargs)


# Compiled whole, which takes less time than operation by operation.
METRICS = [
    pytest.param(jax.jit(metric), id=metric.__name__)
    for metric in (accuracy, negative_log_likelihood, memorized)
]


def test_accuracy_is_that_of_scikit_learn(drawn):
    logits, labels, _ = drawn
    expected = reference.accuracy_score(labels, logits.argmax(1))
    np.testing.assert_allclose(accuracy(logits, labels).value, expected, rtol=1e-6)
    assert accuracy(logits, labels).count == EXAMPLES


@pytest.mark.parametrize("scale", [1, 5])
def test_negative_log_likelihood_is_that_of_scikit_learn(drawn, scale):
    logits, labels, _ = drawn
    found = negative_log_likelihood(scale * logits, labels).value
    probabilities = special.softmax(scale * np.asarray(logits, np.float64), axis=1)
    expected = reference.log_loss(labels, probabilities, labels=np.arange(CLASSES))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_memorization_is_the_accuracy_on_false_labels_alone(drawn):
    logits, labels, clean = drawn
    false = np.asarray(labels != clean)
    found = memorization(logits, labels, clean)
    expected = reference.accuracy_score(labels[false], logits.argmax(1)[false])
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)
    assert found.count == 20


@pytest.mark.parametrize("metric", METRICS)
def test_masked_examples_equal_removed_ones_whatever_they_hold(drawn, rng, metric):
    logits, labels, _ = drawn
    where = rng.uniform(size=EXAMPLES) < 0.6
    spoiled = jnp.where(where[:, None], logits, jnp.nan)
    found = metric(spoiled, labels, where=jnp.asarray(where))
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
    nothing = metric(logits, labels, where=jnp.zeros(EXAMPLES, bool))
    assert (nothing.total, nothing.count) == (0, 0)
    assert jnp.isnan(nothing.value)
    whole = metric(logits, labels)
    assert merge(nothing, whole).value == whole.value


def test_clean_labels_have_no_memorization(drawn):
    logits, _, clean = drawn
    assert jnp.isnan(memorization(logits, clean, clean).value)


def test_the_value_of_nothing_has_a_finite_gradient():
    gradient = jax.grad(lambda total: Average(total, jnp.float32(0)).value)(jnp.float32(0))
    assert jnp.isfinite(gradient)


@pytest.mark.parametrize("metric", METRICS)
def test_any_batch_shape_counts_every_example(drawn, metric):
    logits, labels, _ = drawn
    folded = metric(logits.reshape(4, 15, CLASSES), labels.reshape(4, 15))
    np.testing.assert_allclose(folded, metric(logits, labels), rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_scores_are_summed_in_float32(drawn, metric):
    logits, labels, _ = drawn
    many = jnp.tile(logits, (100, 1)).astype(jnp.bfloat16)
    found = metric(many, jnp.tile(labels, 100))
    expected = metric(many.astype(jnp.float32), jnp.tile(labels, 100))
    assert found.total.dtype == found.count.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_jit_and_vmap_measure_every_model_on_its_own(drawn, metric):
    logits, labels, _ = drawn
    models = jnp.stack([logits, -logits, logits[::-1]])
    found = jax.jit(jax.vmap(metric, in_axes=(0, None)))(models, labels)
    for index, model in enumerate(models):
        np.testing.assert_allclose(found.value[index], metric(model, labels).value, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int32])
def test_labels_of_any_integer_dtype_are_not_confused_with_classes_beyond_it(dtype):
    predictions, labels = jnp.array([0, 127, 256, 299]), jnp.array([0, 127, 0, 43], dtype)
    logits = jax.nn.one_hot(predictions, 300)
    assert accuracy(logits, labels).total == 2
    assert memorization(logits, labels, labels + jnp.ones((), dtype)).total == 2


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_outside_the_classes_has_no_likelihood(drawn, label):
    logits, labels, _ = drawn
    assert jnp.isnan(negative_log_likelihood(logits, labels.at[3].set(label)).value)
    assert accuracy(logits, labels.at[:].set(label)).total == 0


@pytest.mark.parametrize("metric", [accuracy, negative_log_likelihood])
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
        metric(logits, labels, where=jnp.ones(shape, bool))
