"""What every metric refuses: masks that are weights, and numbers that mean nothing."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lnl_jax import metrics

LOGITS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1], np.int32)
POSITIVES = np.array([True, False, True, False])
# Every metric with a mask, as a function of the mask.
MASKED = {
    "accuracy": functools.partial(metrics.accuracy, LOGITS, LABELS),
    "top_k_accuracy": functools.partial(metrics.top_k_accuracy, LOGITS, LABELS, 2),
    "per_class_accuracy": functools.partial(metrics.per_class_accuracy, LOGITS, LABELS),
    "negative_log_likelihood": functools.partial(metrics.negative_log_likelihood, LOGITS, LABELS),
    "memorization": functools.partial(metrics.memorization, LOGITS, LABELS, LABELS),
    "calibration_bins": functools.partial(metrics.calibration_bins, LOGITS, LABELS),
    "brier_score": functools.partial(metrics.brier_score, LOGITS, LABELS),
    "auroc": functools.partial(metrics.auroc, LOGITS[:, 0], POSITIVES),
    "average_precision": functools.partial(metrics.average_precision, LOGITS[:, 0], POSITIVES),
    "alignment": functools.partial(metrics.alignment, LOGITS, LOGITS),
    "class_average": functools.partial(metrics.class_average, LOGITS[:, 0], LABELS, num_classes=3),
}
UNMASKED = {"class_mean", "effective_rank", "expected_calibration_error", "merge", "uniformity"}
# Of sums and counts; `test_label_noise.py`.
UNMASKED |= {"accuracy_bounds", "crossing_prevalence", "noise_corrected_accuracy"}
OF_LABELS = ("accuracy", "top_k_accuracy", "per_class_accuracy", "negative_log_likelihood")
OF_LABELS += ("calibration_bins", "brier_score")


def test_every_metric_is_tested_here():
    functions = {name for name in metrics.__all__ if not isinstance(getattr(metrics, name), type)}
    assert functions == MASKED.keys() | UNMASKED


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_weights_is_refused_with_the_repair(name):
    for mask in (np.full(4, 0.5, np.float32), np.ones(4, np.int32)):
        text = f"where must be boolean, got {mask.dtype}; compare it with 0"
        with pytest.raises(ValueError, match=re.escape(text)):
            MASKED[name](where=mask)


@pytest.mark.parametrize("name", OF_LABELS)
def test_labels_of_another_form_are_refused_with_the_repair_that_fits(name):
    metric = MASKED[name]
    again = functools.partial(metric.func, LOGITS)
    for labels, repair in (
        (LABELS[:, None], "labels[:, 0]"),
        (np.eye(3, dtype=np.float32)[LABELS], "labels.argmax(-1)"),
        (LABELS.astype(np.float32), "labels.astype(np.int32)"),
    ):
        with pytest.raises(ValueError, match=re.escape(repair)):
            again(labels, *metric.args[2:])


def test_a_wide_label_is_not_cut_to_a_class():
    wide, logits = np.array([2**32, 1, 2, 1]), LOGITS.copy()
    logits[0, 0] = 9
    first, second = (metrics.accuracy(logits, labels).total for labels in (wide, LABELS))
    assert float(first) == float(second) - 1
    assert np.isnan(metrics.negative_log_likelihood(LOGITS, wide).value)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_of_no_sense_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be above 0"):
        metrics.uniformity(LOGITS, scale=scale)


def test_arrays_on_an_explicit_mesh_work_or_name_the_mesh_to_make():
    mesh = jax.make_mesh((2,), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    logits, labels, positives = jax.device_put((LOGITS, LABELS, POSITIVES), rows)
    works = float(metrics.accuracy(logits, labels, where=positives).total)
    assert works == float(metrics.accuracy(LOGITS, LABELS, where=POSITIVES).total)
    for call in (
        lambda: metrics.per_class_accuracy(logits, labels),
        lambda: metrics.calibration_bins(logits, labels),
        lambda: metrics.auroc(logits[:, 0], positives),
        lambda: metrics.effective_rank(logits),
        lambda: metrics.uniformity(logits),
        lambda: metrics.class_average(logits[:, 0], labels, num_classes=3),
    ):
        with pytest.raises(ValueError, match=r"Explicit axes; .*train\.data_mesh"):
            call()


def test_gradients_of_embeddings_that_coincide_are_those_of_nearby_ones():
    with jax.enable_x64(True):
        features = np.array([[1.0, 0], [1, 0], [0, 1]])
        direction = np.array([[0.3, -1.0], [0.5, 0.2], [0.1, 0.4]])

        def curve(step):
            return metrics.uniformity((features + step * direction).astype(jnp.float64))

        @jax.jit
        def everything(steps):
            return jax.grad(curve)(0.0), jax.grad(jax.grad(curve))(0.0), jax.lax.map(curve, steps)

        slope, bend, values = everything(np.array([0.05, 0.0, -0.05]))
        up, middle, down = map(float, values)
        # Float32 inside, so wide steps and what is left of the third order.
        assert float(slope) == pytest.approx((up - down) / 0.1, abs=0.02)
        assert float(bend) == pytest.approx((up + down - 2 * middle) / 0.05**2, rel=0.02)
    flat = jax.jit(jax.grad(metrics.effective_rank))(np.ones((3, 2), np.float32))
    assert np.isfinite(flat).all()
