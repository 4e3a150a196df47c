"""Stored labels: what is kept, how it is read again, and files that belong to one run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import distill

SETTINGS = {"count": 8, "batch_size": 4, "size": (8, 8), "min_area": 0.3, "alpha": 1.0}


@functools.lru_cache
def drawer(seed, **settings):
    """Compiled once: eagerly every operation would be a program of its own."""
    return jax.jit(functools.partial(distill.labels.draw_geometry, seed, **settings))


def drawn(**settings):
    return distill.labels.geometry_fingerprint(drawer(1, **settings))


@pytest.fixture
def probabilities(rng):
    return jnp.asarray(rng.dirichlet(np.ones(6), 5), jnp.float32)


def test_fkd_keeps_the_top_and_shares_the_rest(probabilities):
    top = distill.labels.keep_top(probabilities, 2)
    for row, values, classes in zip(probabilities, top.values, top.classes, strict=True):
        assert sorted(row.tolist())[-2:] == values.tolist()[::-1] == row[classes].tolist()[::-1]
    smooth = distill.labels.complete_marginal_smoothing(top, num_classes=6)
    renormed = distill.labels.complete_marginal_renorm(top, num_classes=6)
    kept = np.zeros((5, 6), bool)
    np.put_along_axis(kept, np.asarray(top.classes, int), True, 1)
    left = 1 - np.where(kept, probabilities, 0).sum(1, keepdims=True)
    expected = np.where(kept, probabilities, left / 4)
    np.testing.assert_allclose(smooth, expected, rtol=1e-5)
    expected = np.where(kept, probabilities / (1 - left), 0)
    np.testing.assert_allclose(renormed, expected, rtol=1e-5)
    one = distill.labels.keep_top(probabilities, 1)
    smooth = distill.labels.complete_smoothing(top, num_classes=6)
    np.testing.assert_array_equal(
        smooth, distill.labels.complete_marginal_smoothing(one, num_classes=6)
    )
    hard = distill.labels.complete_hard(top, num_classes=6)
    np.testing.assert_array_equal(hard.argmax(1), probabilities.argmax(1))
    np.testing.assert_array_equal(hard.sum(1), 1)


def test_everything_kept_is_everything(probabilities):
    logits = jnp.log(probabilities)
    top, top_logits = distill.labels.keep_top(probabilities, 6), distill.labels.keep_top(logits, 6)
    for found in (
        distill.labels.complete_marginal_smoothing(top, num_classes=6),
        distill.labels.complete_marginal_renorm(top, num_classes=6),
        jax.nn.softmax(distill.labels.complete_logit_renorm(top_logits, num_classes=6)),
        jax.nn.softmax(distill.labels.complete_logit_fill(top_logits, num_classes=6)),
        jax.nn.softmax(distill.labels.as_logits(probabilities)),
    ):
        np.testing.assert_allclose(found, probabilities, rtol=1e-5)


def test_lpqld_renormalises_or_fills_with_the_smallest(probabilities):
    logits = jnp.log(probabilities) + 3
    top = distill.labels.keep_top(logits, 2)
    np.testing.assert_allclose(
        jax.nn.softmax(distill.labels.complete_logit_renorm(top, num_classes=6)),
        distill.labels.complete_marginal_renorm(
            distill.labels.keep_top(probabilities, 2), num_classes=6
        ),
        rtol=1e-5,
    )
    filled = distill.labels.complete_logit_fill(top, num_classes=6)
    np.testing.assert_allclose(filled, jnp.maximum(logits, top.values[:, 1:]), rtol=1e-6)


def test_bytes_are_off_by_half_a_step_at_most(rng):
    logits = jnp.asarray(5 * rng.normal(size=(20, 7)), jnp.float32)
    found = np.asarray(
        jax.jit(lambda x: distill.labels.dequantize(distill.labels.quantize(x)))(logits)
    )
    logits = np.asarray(logits)
    steps = (logits.max(1) - logits.min(1)) / 255
    # and float16's rounding of the ends, of 11 bits
    bound = 0.5 * steps + 2.0**-11 * (abs(logits.min(1)) + logits.max(1) - logits.min(1))
    assert (abs(found - logits).max(1) <= bound).all()
    constant = jnp.full((1, 3), 2.0)
    np.testing.assert_array_equal(
        distill.labels.dequantize(distill.labels.quantize(constant)), constant
    )


def test_classes_are_stored_in_the_smallest_type():
    types = [
        np.dtype(distill.labels.index_dtype(classes)).itemsize for classes in (256, 257, 65537)
    ]
    assert types == [1, 2, 4]
    with pytest.raises(ValueError, match="k must be an integer from 1 to .*, 3; got 4"):
        distill.labels.keep_top(jnp.zeros(3), 4)


def test_a_pruned_run_draws_from_the_first_steps_evenly():
    pool = distill.labels.pool_steps(100, 10)
    draws = np.asarray(
        jax.vmap(lambda step: distill.labels.pooled_step(0, step, pool))(jnp.arange(2000))
    )
    counts = np.bincount(draws, minlength=10)
    assert pool == len(counts) == 10
    # Five standard deviations of a binomial count.
    assert abs(counts - 200).max() < 5 * (2000 * 0.1 * 0.9) ** 0.5


def test_ferkd_sorts_crops_by_the_confidence_in_the_true_class():
    probabilities = jnp.array([[0.1, 0.9], [0.3, 0.7], [0.6, 0.4], [0.98, 0.02]])
    found = distill.labels.ferkd_targets(probabilities, jnp.zeros(4, jnp.int32))
    expected = [[0.55, 0.45], [0.95, 0.05], [0.6, 0.4], [0.95, 0.05]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="ascend"):
        distill.labels.ferkd_targets(
            probabilities, jnp.zeros(4, jnp.int32), thresholds=(0.5, 0.1, 1)
        )


@pytest.mark.slow
def test_replayed_labels_are_the_live_ones_bit_for_bit(rng):
    images = jnp.asarray(rng.normal(size=(8, 8, 8, 1)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(64, 3)), jnp.float32)
    teacher = distill.labels.model_labels(lambda images: images.reshape(len(images), -1) @ kernel)

    @jax.jit
    def live(step):
        geometry = distill.labels.draw_geometry(5, step, **SETTINGS)
        return teacher({"images": distill.labels.apply_geometry(images, geometry)})

    stored = jnp.stack([live(step) for step in range(4)])
    for step in (2, 0, 3):
        for kept in (stored, np.asarray(stored)):
            replayed = distill.labels.stored_labels(kept)({"step": step})
            np.testing.assert_array_equal(live(step), replayed)
    assert len({row.tobytes() for row in np.asarray(stored)}) == 4


@pytest.mark.slow
def test_geometry_crops_flips_and_pastes_what_it_says(rng):
    images = jnp.asarray(rng.normal(size=(8, 8, 8, 1)), jnp.float32)
    passes = [drawer(1, **SETTINGS)(step) for step in range(4)]
    assert sorted(np.concatenate([g.rows for g in passes[:2]])) == list(range(8))
    assert sorted(np.concatenate([g.rows for g in passes[2:]])) == list(range(8))
    plain = drawer(1, **SETTINGS | {"min_area": 1.0, "alpha": 0.0})(0)
    expected = np.array(images[plain.rows])
    flips = np.asarray(plain.flips)
    expected[flips] = expected[flips][:, :, ::-1]
    np.testing.assert_array_equal(distill.labels.apply_geometry(images, plain), expected)
    mixed = plain._replace(paste=jnp.array([2, 1, 6, 3]), area=jnp.float32(8 / 64))
    expected[:, 2:6, 1:3] = expected[np.asarray(plain.partners)][:, 2:6, 1:3]
    np.testing.assert_array_equal(distill.labels.apply_geometry(images, mixed), expected)
    labels = distill.labels.mixed_labels(jnp.arange(8), mixed, num_classes=8)
    base, partner = np.asarray(plain.rows), np.asarray(plain.rows[plain.partners])
    for row, first, second in zip(labels, base, partner, strict=True):
        expected = np.zeros(8)
        expected[first] += 7 / 8
        expected[second] += 1 / 8
        np.testing.assert_allclose(row, expected)
    for geometry in passes:
        top, left, bottom, right = (int(value) for value in geometry.paste)
        assert float(geometry.area) == (bottom - top) * (right - left) / 64
        assert ((geometry.boxes[:, :2] + geometry.boxes[:, 2:]) <= 1 + 1e-6).all()
    with pytest.raises(ValueError, match="batch_size must be an integer from 1 to 8, got 9"):
        distill.labels.draw_geometry(0, 0, **SETTINGS | {"batch_size": 9})


@pytest.mark.slow
def test_a_file_belongs_to_one_data_set_seed_and_geometry(tmp_path, rng):
    images, labels = rng.normal(size=(8, 8, 8, 1)).astype("f4"), np.arange(8)
    logits = rng.normal(size=(4, 4, 3)).astype("f2")
    wanted = distill.labels.label_fingerprint(images, labels, seed=1, geometry=drawn(**SETTINGS))
    path = tmp_path / "labels.npz"
    size = distill.labels.write_labels(path, {"logits": logits}, wanted)
    parts = distill.labels.label_file_bytes({"logits": logits}, wanted)
    assert size == path.stat().st_size == sum(parts.values())
    assert parts["logits"] == distill.ledger.label_bytes(8, 2, 3)
    np.testing.assert_array_equal(distill.labels.read_labels(path, wanted)["logits"], logits)
    with pytest.raises(FileExistsError, match="choose another name"):
        distill.labels.write_labels(path, {"logits": logits}, wanted)

    other = drawn(**SETTINGS | {"min_area": 0.2})
    changes = {
        "data": distill.labels.label_fingerprint(
            images + 1, labels, seed=1, geometry=wanted["geometry"]
        ),
        "seed": distill.labels.label_fingerprint(
            images, labels, seed=2, geometry=wanted["geometry"]
        ),
        "geometry": distill.labels.label_fingerprint(images, labels, seed=1, geometry=other),
        "generator": wanted | {"generator": "rbg"},
    }
    for name, changed in changes.items():
        with pytest.raises(ValueError, match=f"labels of another run: {name} "):
            distill.labels.read_labels(path, changed)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="no whole file of labels"):
        distill.labels.read_labels(path, wanted)


@pytest.mark.slow
def test_sources_are_interchangeable(rng):
    geometry = drawer(1, **SETTINGS)(0)
    mixed = distill.labels.mixed_labels(jnp.arange(8) % 3, geometry, num_classes=3)
    batch = {"images": geometry.boxes, "mixed": mixed}
    hard = distill.labels.hard_labels()(batch)
    np.testing.assert_allclose(jax.nn.softmax(hard), mixed, rtol=1e-5)
    constant = [
        distill.labels.model_labels(lambda images, v=value: jnp.full((4, 3), v))
        for value in (1, 2, 3)
    ]
    source = distill.labels.scheduled_labels(*constant, soft=5, total=9)
    taken = [source(batch | {"step": step}) for step in range(9)]
    assert [int(row[0, 0]) for row in taken] == [1, 1, 2, 2, 2, 2, 3, 3, 3]


def test_divergence_of_teacher_and_student():
    targets, logits = jnp.array([[1.0, 2.0, -1.0]]), jnp.array([[0.5, 0.1, 0.2]])
    p, q = (np.asarray(jax.nn.softmax(values / 4)) for values in (targets, logits))
    found = distill.labels.distillation_kl(logits, targets, temperature=4.0)
    np.testing.assert_allclose(found, (p * np.log(p / q)).sum(1), rtol=1e-4)
    assert float(distill.labels.distillation_kl(targets, targets)[0]) == 0
    impossible = jnp.array([[0.0, -jnp.inf, -1e4]])
    value, gradient = jax.value_and_grad(
        lambda z: distill.labels.distillation_kl(z, impossible).sum()
    )(jnp.array([[0.0, 1e4, -1e4]]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    error = distill.labels.distillation_mse(logits, targets, jnp.array([1]), ce_weight=0.0)
    np.testing.assert_allclose(error, jnp.square(logits - targets).mean(1), rtol=1e-6)
    same = distill.labels.distillation_mse(logits, targets, jnp.eye(3)[1:2], ce_weight=2.0)
    by_class = distill.labels.distillation_mse(logits, targets, jnp.array([1]), ce_weight=2.0)
    np.testing.assert_allclose(same, by_class, rtol=1e-6)
    expected = -(np.asarray(jax.nn.softmax(targets)) * np.asarray(jax.nn.log_softmax(logits))).sum(
        1
    )
    np.testing.assert_allclose(
        distill.labels.soft_cross_entropy(logits, targets), expected, rtol=1e-5
    )


@pytest.mark.parametrize("count", [0, 1, 4])
def test_labels_are_asked_for_one_batch_ahead(count):
    asked = []

    def labels(batch):
        asked.append(batch["step"])
        return 10 * batch["step"]

    batches = ({"step": step} for step in range(count))
    for step, batch in enumerate(distill.labels.labels_ahead(labels, batches)):
        assert batch == {"step": step, "targets": 10 * step}
        assert asked == list(range(min(step + 2, count)))
    assert asked == list(range(count))
