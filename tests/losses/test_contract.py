"""The properties that every loss has.

Compiling is what takes the time: evaluated eagerly, at one shape, the losses share the programs of
their operations. So only what is about `jit` and `vmap` is compiled, and the rows of one batch
stand for several cases.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import losses
from tests.losses.cases import CASES, HELPERS

EXAMPLES, CLASSES = 6, 5
ADJUSTABLE = {name: case for name, case in CASES.items() if case.hyperparameters}
BOUNDED = {name: case for name, case in CASES.items() if not case.infinite}


# Unlike ones: shapes are the business of what all losses share.
UNLIKE = (
    "ldr_kl_top_2",
    "bi_tempered_logistic",
    "asymmetric_unhinged",
    "generalized_jensen_shannon",
    "ldam",
    "forward_correction",
)


def parameters(cases, fast=tuple(CASES)):
    """The cases; variants and all that are not among the fast ones are left to the slow tests."""
    return [
        pytest.param(
            case, id=name, marks=pytest.mark.slow if case.variant or name not in fast else ()
        )
        for name, case in cases.items()
    ]


of_unlike_losses = pytest.mark.parametrize("case", parameters(CASES, UNLIKE))


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


def with_gradient(case, logits, labels, **overrides):
    """The losses, and the gradient of their sum in the logits."""
    losses, pullback = jax.vjp(lambda logits: case(logits, labels, **overrides), logits)
    return losses, pullback(jnp.ones_like(losses))[0]


def random_directions(arguments):
    rng = np.random.default_rng(1)
    return tuple(jnp.asarray(rng.normal(size=np.shape(a)), jnp.float64) for a in arguments)


def central_difference(function, arguments, moved):
    """The slope of the sum of a function in float64, along the random direction of one argument."""
    direction = random_directions(arguments)[moved]
    up, down = (
        function(*arguments[:moved], arguments[moved] + step, *arguments[moved + 1 :]).sum()
        for step in (1e-6 * direction, -1e-6 * direction)
    )
    return (up - down) / 2e-6


def compiled_slopes(function, arguments):
    """The losses, the slope of their sum along `random_directions`, and its gradients."""
    directions = random_directions(arguments)

    @jax.jit
    def slopes(*arguments):
        losses, forward = jax.jvp(function, arguments, directions)
        every = tuple(range(len(arguments)))
        gradients = jax.grad(lambda *arguments: function(*arguments).sum(), every)(*arguments)
        return losses, forward.sum(), gradients

    return slopes


def assert_slopes(slopes, definition, names, arguments):
    """Forward and reverse mode against the numerical slopes of a definition."""
    directions = random_directions(arguments)
    _, forward, gradients = slopes(*arguments)
    reverse = [float(jnp.vdot(g, d)) for g, d in zip(gradients, directions, strict=True)]
    for moved, name in enumerate(names):
        np.testing.assert_allclose(
            reverse[moved],
            central_difference(definition, arguments, moved),
            rtol=1e-5,
            atol=1e-6,
            err_msg=f"The gradient in {name} is not the slope.",
        )
    np.testing.assert_allclose(
        forward, sum(reverse), rtol=1e-10, atol=1e-12, err_msg="Forward mode is not reverse mode."
    )


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


@of_unlike_losses
def test_values_and_gradients_in_float64_are_those_of_its_definition(case, rng):
    with jax.enable_x64(True):
        logits, labels = draw(rng, np.float64)
        names = list(case.hyperparameters)
        values = [jnp.float64(value) + 0.05 for value in case.hyperparameters.values()]

        def of(loss):
            def losses(logits, *values):
                return loss(logits, labels, **dict(zip(names, values, strict=True)))

            return losses

        arguments = (logits, *values)
        slopes = compiled_slopes(of(case), arguments)
        found = slopes(*arguments)[0]
        assert found.dtype == jnp.float64
        # ROW is stored in float32.
        np.testing.assert_allclose(found, of(case.expected)(*arguments), rtol=1e-7, atol=1e-7)
        if not case.detached:
            assert_slopes(slopes, of(case.expected), ("the logits", *names), arguments)


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


@of_unlike_losses
def test_jit_equals_eager(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_allclose(
        jax.jit(case)(logits, labels), case(logits, labels), rtol=2e-6, atol=2e-6
    )


@of_unlike_losses
def test_vmap_equals_batch(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(case))(logits, labels), case(logits, labels), rtol=2e-6, atol=2e-6
    )


@of_unlike_losses
def test_class_axis_can_be_any(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_array_equal(case(logits.T, labels, axis=0), case(logits, labels))


@of_unlike_losses
def test_leading_batch_dimensions(case, rng):
    logits, labels = draw(rng)
    folded = jax.jit(case)(logits.reshape(2, 3, CLASSES), labels.reshape(2, 3))
    np.testing.assert_allclose(folded.ravel(), case(logits, labels), rtol=2e-6, atol=2e-6)


@of_unlike_losses
def test_an_unbatched_example(case, rng):
    logits, labels = draw(rng)
    np.testing.assert_allclose(
        jax.jit(case)(logits[0], labels[0]), case(logits, labels)[0], rtol=2e-6, atol=2e-6
    )


@pytest.mark.parametrize("case", parameters(CASES, ("aldr_kl",)))
def test_a_batch_without_examples_has_no_losses(case, rng):
    logits, labels = draw(rng)
    losses, gradient = with_gradient(case, logits[:0], labels[:0])
    assert (losses.shape, gradient.shape) == ((0,), (0, CLASSES))


def test_permuting_the_classes_changes_nothing(case, rng):
    logits, labels = draw(rng)
    order = rng.permutation(CLASSES)
    position = jnp.asarray(np.argsort(order), jnp.int32)
    found = case(logits[:, order], position[labels], **case.of_classes(order, CLASSES))
    np.testing.assert_allclose(found, case(logits, labels), rtol=5e-6, atol=5e-6)


def test_masked_classes_equal_removed_classes(case, rng):
    logits, labels = draw(rng)
    where = np.arange(CLASSES)[None] != np.asarray((labels + 1) % CLASSES)[:, None]
    soft = draw_soft(rng) * jnp.asarray(where, jnp.float32)
    soft = soft / soft.sum(-1, keepdims=True)
    kept = np.nonzero(where)[1].reshape(EXAMPLES, CLASSES - 1)
    arrays = [case.of_classes(classes, CLASSES) for classes in kept]
    arrays = jax.tree.map(lambda *rows: jnp.stack(rows), *arrays)
    removed = jax.jit(jax.vmap(lambda logits, labels, arrays: case(logits, labels, **arrays)))
    for form, target, distribution in (
        ("integer", labels, one_hot(labels)),
        ("soft", soft, soft),
    ):
        without = (np.take_along_axis(np.asarray(a), kept, 1) for a in (logits, distribution))
        np.testing.assert_allclose(
            case(logits, target, where=where),
            removed(*without, arrays),
            rtol=5e-6,
            atol=5e-6,
            err_msg=f"{form} labels",
        )


def test_fully_masked_is_zero_with_zero_gradient(case, rng):
    logits, labels = draw(rng)
    where = np.repeat(np.arange(EXAMPLES)[:, None] != 2, CLASSES, 1)
    found, gradient = with_gradient(case, logits, labels, where=where)
    assert found[2] == 0
    assert jnp.isfinite(found).all()
    assert jnp.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[2], 0)


def test_what_a_masked_class_holds_does_not_matter(case, rng):
    logits, labels = draw(rng)
    where = np.arange(CLASSES)[None] != np.asarray((labels + 1) % CLASSES)[:, None]
    clean = with_gradient(case, logits, labels, where=where)
    for bad in np.float32([np.nan, np.inf, -np.inf]):
        found = with_gradient(case, jnp.where(where, logits, bad), labels, where=where)
        np.testing.assert_allclose(found[0], clean[0], rtol=1e-6, err_msg=f"{bad}")
        np.testing.assert_allclose(found[1], clean[1], rtol=1e-6, atol=1e-7, err_msg=f"{bad}")


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e30])
def test_value_and_gradient_are_finite_at_any_scale(case, rng, scale):
    logits, labels = draw(rng)
    for target in (labels, draw_soft(rng)):
        value, gradient = with_gradient(case, scale * logits, target)
        assert jnp.isfinite(value).all()
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("case", parameters(BOUNDED))
@pytest.mark.parametrize("form", [lambda labels: labels, one_hot], ids=["integer", "one-hot"])
def test_minus_infinity_removes_a_wrong_class_but_counts_it(case, rng, form):
    logits, labels = draw(rng)
    is_wrong = np.arange(CLASSES)[None] == np.asarray((labels + 1) % CLASSES)[:, None]
    removed, far = (
        with_gradient(case, jnp.where(is_wrong, low, logits), form(labels))
        for low in np.float32([-np.inf, -1e30])
    )
    np.testing.assert_allclose(removed[0], far[0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(removed[1], far[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE, UNLIKE))
def test_hyperparameter_gradients_are_finite_at_minus_infinity(case, rng):
    logits, labels = draw(rng)
    lowered = logits.at[jnp.arange(EXAMPLES), (labels + 1) % CLASSES].set(-jnp.inf)
    settings = {name: jnp.float32(value) for name, value in case.hyperparameters.items()}
    gradients = jax.jit(jax.grad(lambda settings: case(lowered, labels, **settings).sum()))(
        settings
    )
    assert all(jnp.isfinite(gradient) for gradient in gradients.values())


@of_unlike_losses
def test_gradients_with_soft_labels_match_finite_differences(case, rng):
    """Those in the labels, which leave the simplex here, and in the logits with them."""
    with jax.enable_x64(True):
        logits, _ = draw(rng, np.float64)
        labels = jnp.asarray(rng.dirichlet(np.ones(CLASSES), size=EXAMPLES))
        if case.detached:
            function, arguments, names = lambda labels: case(logits, labels), (labels,), ("labels",)
        else:
            function, arguments, names = case, (logits, labels), ("the logits", "the labels")
        slopes = compiled_slopes(function, arguments)
        assert_slopes(slopes, lambda *arguments: slopes(*arguments)[0], names, arguments)


@of_unlike_losses
def test_soft_labels_have_finite_gradients_on_faces_of_the_simplex(case, rng):
    logits, _ = draw(rng)
    for scale in (1.0, 1e4, 1e30):
        losses, pullback = jax.vjp(case, scale * logits, draw_soft(rng))
        for gradient in pullback(jnp.ones_like(losses)):
            assert jnp.isfinite(gradient).all()


def test_value_under_differentiation_is_the_value(case, rng):
    logits, labels = draw(rng)
    for scale in np.float32([0, 1, 1e4]):
        value, _ = jax.vjp(lambda logits: case(logits, labels), scale * logits)
        # At a high temperature a sum that adds up in another order beside its derivative shows.
        units = 2 if case.function is losses.aldr_kl else 0
        np.testing.assert_array_max_ulp(value, case(scale * logits, labels), maxulp=units)


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
            case(logits, labels, **{name: float(value)})[row] for row, value in enumerate(values)
        ]
        np.testing.assert_allclose(found, jnp.stack(one_by_one), rtol=5e-6, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE, UNLIKE))
def test_traced_hyperparameters_can_be_swept_with_vmap(case, rng):
    logits, labels = draw(rng)
    sweep = {
        name: jnp.asarray([value, value + 0.1, value + 0.2], jnp.float32)
        for name, value in case.hyperparameters.items()
    }
    found = jax.jit(jax.vmap(lambda settings: case(logits, labels, **settings)))(sweep)
    for point in range(3):
        settings = {name: float(values[point]) for name, values in sweep.items()}
        np.testing.assert_allclose(
            found[point], case(logits, labels, **settings), rtol=5e-6, atol=5e-6
        )


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
        # Beyond float32, and beyond every floating number.
        for huge in (float("inf"), 1e39, 10**400):
            with pytest.raises(ValueError, match=f"{name} must be .*got"):
                case(logits, labels, **{name: huge})
        with pytest.raises(ValueError, match=f"{name} must be .*got -inf"):
            case(logits, labels, **{name: float("-inf")})
        assert jnp.isnan(case(logits, labels, **{name: jnp.float32(jnp.inf)})).all()
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
            array = jnp.asarray(make(CLASSES)) + 1e-3

            def of(loss, name=name):
                return lambda values: loss(logits, labels, **{name: values})

            slopes = compiled_slopes(of(case), (array,))
            assert_slopes(slopes, of(case.expected), (name,), (array,))


@pytest.mark.parametrize("case", parameters(ADJUSTABLE))
def test_a_hyperparameter_of_another_shape_raises(case, rng):
    logits, labels = draw(rng)
    for name in case.hyperparameters:
        with pytest.raises(ValueError, match=rf"{name} must be a scalar or .*shape \(6,\); got"):
            case(logits, labels, **{name: jnp.full((CLASSES,), 1.5)})


BAD_LABELS = {
    "one_hot_integers": (
        lambda labels: jax.nn.one_hot(labels, CLASSES, dtype=jnp.int32),
        r"argmax\(-1\) or, as a distribution, labels\.astype\(logits\.dtype\)",
    ),
    "class_numbers_as_floats": (lambda labels: labels.astype(jnp.float32), "cast class numbers"),
    "a_column": (lambda labels: labels[:, None], r"labels\[:, 0\]"),
    "text": (lambda labels: labels.astype(str), "np.unique"),
    "another_length": (lambda labels: labels[:-1], r"\(5,\)"),
    "booleans": (lambda labels: labels > 0, "bool"),
}


@pytest.mark.parametrize(("spoil", "repair"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_of_no_form_raise_with_both_shapes_and_the_repair(case, rng, spoil, repair):
    logits, labels = draw(rng)
    with pytest.raises(ValueError, match=rf"labels must be .*\(6,\).*\(6, 5\).*got.*{repair}"):
        case(logits, spoil(np.asarray(labels)))


def test_wide_integers_outside_the_classes_do_not_become_classes(rng):
    """Cut to 32 bits they would be class 0."""
    logits, labels = draw(rng)
    for dtype, far in ((np.int64, 2**32), (np.int64, -(2**32)), (np.uint64, 2**63)):
        wide = np.asarray(labels, dtype)
        wide[0] = far
        found = losses.mean_absolute_error(logits, wide)
        np.testing.assert_array_equal(jnp.isnan(found), jnp.arange(EXAMPLES) == 0)


def test_logits_without_a_class_raise():
    with pytest.raises(ValueError, match=r"logits must have at least one class, got.*\(2, 0\)"):
        losses.mean_absolute_error(np.zeros((2, 0)), np.zeros(2, int))


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
