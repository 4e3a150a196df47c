"""The properties that every loss has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import losses
from tests.losses.cases import CASES, HELPERS

EXAMPLES, CLASSES = 6, 5
ATTACHED = {name: case for name, case in CASES.items() if not case.detached}
ADJUSTABLE = {name: case for name, case in CASES.items() if case.hyperparameters}
ATTACHED_ADJUSTABLE = {name: case for name, case in ADJUSTABLE.items() if name in ATTACHED}
BOUNDED = {name: case for name, case in CASES.items() if not case.infinite}


def parameters(cases):
    return [
        pytest.param(case, id=name, marks=pytest.mark.slow if case.variant else ())
        for name, case in cases.items()
    ]


@pytest.fixture(params=parameters(CASES))
def case(request):
    return request.param


def draw(rng, dtype=np.float32):
    logits = 2 * rng.normal(size=(EXAMPLES, CLASSES))
    return jnp.asarray(logits, dtype), jnp.asarray(rng.integers(CLASSES, size=EXAMPLES), jnp.int32)


def draw_soft(rng, dtype=np.float32):
    """Distributions, one of them on a face of the simplex and one on a corner."""
    labels = rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)
    labels[0] = [0.4, 0.6, 0, 0, 0]
    labels[1] = [0, 0, 0, 1, 0]
    return jnp.asarray(labels, dtype)


def one_hot(labels, dtype=jnp.float32):
    return jax.nn.one_hot(labels, CLASSES, dtype=dtype)


def assert_differentiable(function, *arguments):
    """Forward and reverse mode against a central difference, along a random direction.

    As one program: compiling is what takes the time.
    """
    rng = np.random.default_rng(1)
    directions = tuple(jnp.asarray(rng.normal(size=np.shape(a)), jnp.float64) for a in arguments)

    @jax.jit
    def slopes(arguments):
        def moved(step):
            return function(*(a + step * d for a, d in zip(arguments, directions, strict=True)))

        _, forward = jax.jvp(function, arguments, directions)
        gradients = jax.grad(function, tuple(range(len(arguments))))(*arguments)
        reverse = sum(jnp.vdot(g, d) for g, d in zip(gradients, directions, strict=True))
        return forward, reverse, (moved(1e-6) - moved(-1e-6)) / 2e-6

    forward, reverse, numerical = slopes(arguments)
    np.testing.assert_allclose(forward, numerical, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10, atol=1e-12)


def total(case, labels, **overrides):
    return lambda logits: case(logits, labels, **overrides).sum()


def test_every_loss_has_a_case():
    functions = {getattr(case.function, "__name__", None) for case in CASES.values()}
    named = {name for name in losses.__all__ if name in functions or name in CASES}
    assert named | HELPERS == set(losses.__all__)


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_matches_its_definition(case, rng, soft):
    logits, labels = draw(rng)
    labels = draw_soft(rng) if soft else labels
    np.testing.assert_allclose(
        case(logits, labels), case.expected(logits, labels), rtol=2e-5, atol=2e-5
    )


def test_matches_its_definition_in_float64(case, rng):
    with jax.enable_x64(True):
        logits, labels = draw(rng, np.float64)
        found = case(logits, labels)
        assert found.dtype == jnp.float64
        # ROW is stored in float32.
        np.testing.assert_allclose(found, case.expected(logits, labels), rtol=1e-7, atol=1e-7)


def test_integer_labels_equal_one_hot_labels(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_allclose(
        case(logits, labels), case(logits, one_hot(labels)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_one_loss_per_example_in_the_dtype_of_the_logits(case, rng, dtype):
    logits, labels = draw(rng)
    found = case(logits.astype(dtype), labels)
    assert (found.shape, found.dtype) == (labels.shape, dtype)
    widened = case(logits.astype(dtype).astype(jnp.float32), labels)
    np.testing.assert_array_equal(found, widened.astype(dtype))


def test_jit_equals_eager(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_allclose(
        jax.jit(case)(logits, labels), case(logits, labels), rtol=2e-6, atol=2e-6
    )


def test_vmap_equals_batch(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_allclose(
        jax.vmap(case)(logits, labels), case(logits, labels), rtol=2e-6, atol=2e-6
    )


def test_class_axis_can_be_any(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_array_equal(case(logits.T, labels, axis=0), case(logits, labels))


def test_leading_batch_dimensions(case, rng):
    logits, labels = draw(rng)
    folded = case(logits.reshape(2, 3, CLASSES), labels.reshape(2, 3))
    np.testing.assert_allclose(folded, case(logits, labels).reshape(2, 3), rtol=2e-6, atol=2e-6)


def test_an_unbatched_example(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_allclose(
        case(logits[0], labels[0]), case(logits, labels)[0], rtol=2e-6, atol=2e-6
    )


def test_permuting_the_classes_changes_nothing(case, rng):
    logits, labels = draw(rng)
    order = rng.permutation(CLASSES)
    position = jnp.asarray(np.argsort(order), jnp.int32)
    found = case(logits[:, order], position[labels], **case.of_classes(order, CLASSES))
    np.testing.assert_allclose(found, case(logits, labels), rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_masked_classes_equal_removed_classes(case, rng, soft):
    logits, labels = draw(rng)
    where = np.arange(CLASSES)[None] != np.asarray((labels + 1) % CLASSES)[:, None]
    if soft:
        labels = draw_soft(rng) * jnp.asarray(where, jnp.float32)
        labels = labels / labels.sum(-1, keepdims=True)
    found = case(logits, labels, where=jnp.asarray(where))
    distribution = labels if soft else one_hot(labels)
    for row in range(EXAMPLES):
        kept = where[row]
        removed = case(logits[row, kept], distribution[row, kept], **case.of_classes(kept, CLASSES))
        np.testing.assert_allclose(found[row], removed, rtol=5e-6, atol=5e-6)


def test_fully_masked_is_zero_with_zero_gradient(case, rng):
    logits, labels = draw(rng)
    where = jnp.ones((EXAMPLES, CLASSES), bool).at[2].set(False)
    found = case(logits, labels, where=where)
    gradient = jax.grad(total(case, jnp.where(jnp.arange(EXAMPLES) == 2, 0, labels), where=where))
    assert found[2] == 0
    assert jnp.isfinite(found).all()
    assert jnp.isfinite(gradient(logits)).all()
    np.testing.assert_array_equal(gradient(logits)[2], 0)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_a_masked_class_holds_does_not_matter(case, rng, bad):
    logits, labels = draw(rng)
    hidden = (labels + 1) % CLASSES
    where = jnp.arange(CLASSES)[None] != hidden[:, None]
    spoiled = jnp.where(where, logits, bad)
    clean = jax.value_and_grad(total(case, labels, where=where))(logits)
    found = jax.value_and_grad(total(case, labels, where=where))(spoiled)
    np.testing.assert_allclose(found[0], clean[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], clean[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e30])
def test_value_and_gradient_are_finite_at_any_scale(case, rng, scale):
    logits, labels = draw(rng)
    for target in (labels, draw_soft(rng)):
        value, gradient = jax.value_and_grad(total(case, target))(scale * logits)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("case", parameters(BOUNDED))
def test_minus_infinity_removes_a_wrong_class_but_counts_it(case, rng):
    logits, labels = draw(rng)
    wrong = (labels + 1) % CLASSES
    lowered = logits.at[jnp.arange(EXAMPLES), wrong].set(-jnp.inf)
    far = logits.at[jnp.arange(EXAMPLES), wrong].set(-1e30)
    for target in (labels, one_hot(labels)):
        value, gradient = jax.value_and_grad(total(case, target))(lowered)
        expected, expected_gradient = jax.value_and_grad(total(case, target))(far)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE))
def test_hyperparameter_gradients_are_finite_at_minus_infinity(case, rng):
    logits, labels = draw(rng)
    lowered = logits.at[jnp.arange(EXAMPLES), (labels + 1) % CLASSES].set(-jnp.inf)
    settings = {name: jnp.float32(value) for name, value in case.hyperparameters.items()}
    gradients = jax.grad(lambda settings: case(lowered, labels, **settings).sum())(settings)
    assert all(jnp.isfinite(gradient) for gradient in gradients.values())


@pytest.mark.parametrize("case", parameters(ATTACHED))
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_gradients_match_finite_differences(case, rng, soft):
    with jax.enable_x64(True):
        logits, labels = draw(rng, np.float64)
        labels = draw_soft(rng, np.float64) if soft else labels
        assert_differentiable(total(case, labels), logits)


@pytest.mark.parametrize("case", parameters(ATTACHED_ADJUSTABLE))
def test_hyperparameter_gradients_match_finite_differences(case, rng):
    with jax.enable_x64(True):
        logits, labels = draw(rng, np.float64)
        names = list(case.hyperparameters)

        def loss(*values):
            return case(logits, labels, **dict(zip(names, values, strict=True))).sum()

        values = [jnp.float64(value) + 0.05 for value in case.hyperparameters.values()]
        assert_differentiable(loss, *values)


def test_soft_label_gradients_match_finite_differences(case, rng):
    with jax.enable_x64(True):
        logits, _ = draw(rng, np.float64)
        labels = draw_soft(rng, np.float64)[2:]
        assert_differentiable(lambda labels: case(logits[2:], labels).sum(), labels)


def test_soft_labels_have_finite_gradients_on_faces_of_the_simplex(case, rng):
    logits, _ = draw(rng)
    gradient = jax.grad(lambda labels, logits: case(logits, labels).sum())
    for scale in (1.0, 1e4, 1e30):
        assert jnp.isfinite(gradient(draw_soft(rng), scale * logits)).all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_value_under_differentiation_is_the_value(case, rng, scale):
    logits, labels = draw(rng)
    value, _ = jax.vjp(lambda logits: case(logits, labels), scale * logits)
    np.testing.assert_array_equal(value, case(scale * logits, labels))


def test_labels_outside_the_classes_give_nan(case, rng):
    logits, labels = draw(rng)
    found = case(logits, labels.at[0].set(-1).at[1].set(CLASSES))
    np.testing.assert_array_equal(jnp.isnan(found), jnp.arange(EXAMPLES) < 2)


def test_labels_on_masked_classes_give_nan(case, rng):
    logits, labels = draw(rng)
    where = jnp.ones((EXAMPLES, CLASSES), bool).at[0, labels[0]].set(False)
    for target in (labels, one_hot(labels)):
        found = case(logits, target, where=where)
        np.testing.assert_array_equal(jnp.isnan(found), jnp.arange(EXAMPLES) == 0)


def test_nan_logits_give_nan(case, rng):
    logits, labels = draw(rng)
    found = case(logits.at[3, 2].set(jnp.nan), labels)
    np.testing.assert_array_equal(jnp.isnan(found), jnp.arange(EXAMPLES) == 3)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE))
def test_a_hyperparameter_per_example_equals_a_loop(case, rng):
    logits, labels = draw(rng)
    for name, value in case.hyperparameters.items():
        values = value + 0.2 * rng.uniform(size=EXAMPLES)
        values = np.float32(values)
        found = case(logits, labels, **{name: jnp.asarray(values)})
        one_by_one = [
            case(logits[row], labels[row], **{name: float(values[row])}) for row in range(EXAMPLES)
        ]
        np.testing.assert_allclose(found, jnp.stack(one_by_one), rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE))
def test_a_traced_hyperparameter_can_be_swept_with_vmap(case, rng):
    logits, labels = draw(rng)
    for name, value in case.hyperparameters.items():
        sweep = jnp.asarray([value, value + 0.1, value + 0.2], jnp.float32)
        found = jax.jit(jax.vmap(lambda one, name=name: case(logits, labels, **{name: one})))(sweep)
        separately = jnp.stack([case(logits, labels, **{name: float(one)}) for one in sweep])
        np.testing.assert_allclose(found, separately, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE))
def test_a_hyperparameter_out_of_range_raises_or_gives_nan(case, rng):
    logits, labels = draw(rng)
    for name in case.hyperparameters:
        bad = case.outside.get(name, -0.5)
        with pytest.raises(ValueError, match=f"{name} must be .*got {bad}"):
            case(logits, labels, **{name: bad})
        with pytest.raises(ValueError, match=f"{name} must be"):
            case(logits, labels, **{name: np.full(EXAMPLES, bad)})
        with pytest.raises(ValueError, match=f"{name} must be"):
            case(logits, labels, **{name: float("nan")})
        assert jnp.isnan(case(logits, labels, **{name: jnp.float32(bad)})).all()


ARRAYS = {name: case for name, case in CASES.items() if case.arrays}


@pytest.mark.parametrize("case", parameters(ARRAYS))
def test_an_array_out_of_range_or_of_another_shape_raises_or_gives_nan(case, rng):
    logits, labels = draw(rng)
    for name, make in case.arrays.items():
        with pytest.raises(ValueError, match=rf"{name} must have shape .*5.*got \(4.*"):
            case(logits, labels, **{name: make(CLASSES - 1)})
        with pytest.raises(ValueError, match=f"{name} must be .*got"):
            case(logits, labels, **{name: -make(CLASSES)})
        negative = -jnp.asarray(make(CLASSES), jnp.float32)
        assert jnp.isnan(case(logits, labels, **{name: negative})).all()


@pytest.mark.parametrize("case", parameters(ARRAYS))
def test_gradients_flow_to_arrays(case, rng):
    with jax.enable_x64(True):
        logits, labels = draw(rng, np.float64)
        for name, make in case.arrays.items():
            assert_differentiable(
                lambda array, name=name: case(logits, labels, **{name: array}).sum(),
                jnp.asarray(make(CLASSES)) + 1e-3,
            )


@pytest.mark.parametrize("case", parameters(ADJUSTABLE))
def test_a_hyperparameter_of_another_shape_raises(case, rng):
    logits, labels = draw(rng)
    for name in case.hyperparameters:
        with pytest.raises(ValueError, match=rf"{name} must be a scalar or .*shape \(6,\); got"):
            case(logits, labels, **{name: jnp.full((CLASSES,), 1.5)})


BAD_LABELS = {
    "one_hot_integers": (lambda labels: jax.nn.one_hot(labels, CLASSES, dtype=jnp.int32), "Cast"),
    "class_numbers_as_floats": (lambda labels: labels.astype(jnp.float32), "Cast class numbers"),
    "a_column": (lambda labels: labels[:, None], r"labels\[..., 0\]"),
    "another_length": (lambda labels: labels[:-1], r"\(5,\)"),
    "booleans": (lambda labels: labels > 0, "bool"),
}


@pytest.mark.parametrize(("spoil", "repair"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_of_no_form_raise_with_both_shapes_and_the_repair(case, rng, spoil, repair):
    logits, labels = draw(rng)
    with pytest.raises(ValueError, match=rf"labels must be .*\(6,\).*\(6, 5\).*got.*{repair}"):
        case(logits, spoil(labels))


def test_integer_logits_and_example_masks_raise(case, rng):
    logits, labels = draw(rng)
    with pytest.raises(ValueError, match="logits must be floating, got int32"):
        case(logits.astype(jnp.int32), labels)
    with pytest.raises(ValueError, match="where must broadcast .* masks classes"):
        case(logits, labels, where=jnp.ones(EXAMPLES, bool))
    with pytest.raises(ValueError, match="where must be boolean"):
        case(logits, labels, where=jnp.ones((EXAMPLES, CLASSES)))


@pytest.mark.slow
def test_integer_labels_build_no_one_hot_array(case):
    """They need no more memory than the distribution that a caller hands over."""
    classes = 1_000 if "matrix" in case.arrays else 50_000
    logits = jax.ShapeDtypeStruct((64, classes), jnp.float32)

    def temporary_bytes(labels):
        gradient = jax.value_and_grad(lambda logits, labels: case(logits, labels).sum())
        analysis = jax.jit(gradient).lower(logits, labels).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    integers = temporary_bytes(jax.ShapeDtypeStruct((64,), jnp.int32))
    assert integers < temporary_bytes(logits) + 4 * 64 * classes / 2
