"""The properties that every loss has.

Compiling is what takes the time. Evaluated eagerly, at one shape, the losses share the programs of
their operations. So the inputs of many claims are stacked in one batch, which each loss evaluates
once for each label form, and the tests of those claims share what came out. What is about `jit` and
`vmap` is compiled, in one program per loss.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import losses
from tests.losses.cases import CASES, OTHERS

CLASSES = 5
# A block holds the examples of one claim; so many blocks are one batch.
BLOCK, BLOCKS = 6, 8
EXAMPLES = BLOCK * BLOCKS
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


@pytest.fixture(params=["integer", "soft"])
def form(request):
    """Whether labels are classes or distributions."""
    return request.param


def draw(rng, dtype=np.float32, examples=EXAMPLES):
    logits = 2 * rng.normal(size=(examples, CLASSES))
    return jnp.asarray(logits, dtype), jnp.asarray(rng.integers(CLASSES, size=examples), jnp.int32)


def draw_soft(rng, dtype=np.float32, examples=EXAMPLES):
    """Distributions, one of them on a face of the simplex and one on a corner."""
    labels = rng.dirichlet(np.ones(CLASSES), size=examples)
    labels[0] = [0.4, 0.6, 0, 0, 0]
    labels[1] = [0, 0, 0, 1, 0]
    return jnp.asarray(labels, dtype)


def one_hot(labels, dtype=jnp.float32):
    return jax.nn.one_hot(labels, CLASSES, dtype=dtype)


def without_the_next(labels):
    """All classes but the one after the label."""
    return np.arange(CLASSES)[None] != np.asarray((labels + 1) % CLASSES)[:, None]


def with_gradient(case, logits, labels, **overrides):
    """The losses, and the gradient of their sum in the logits."""
    losses, pullback = jax.vjp(lambda logits: case(logits, labels, **overrides), logits)
    return losses, pullback(jnp.ones_like(losses))[0]


SCALES = (0.0, 1.0, 1e4, 1e30)
NON_NUMBERS = (np.nan, np.inf, -np.inf)


def whole_inputs(form):
    """Blocks of logits and labels, for the claims about all classes."""
    rng = np.random.default_rng(0)
    logits, integers = draw(rng, examples=BLOCK)
    soft = form == "soft"
    labels = draw_soft(rng, examples=BLOCK) if soft else integers
    certain = one_hot(integers) if soft else integers
    lowered = {low: jnp.where(without_the_next(integers), logits, low) for low in (-np.inf, -1e30)}
    blocks = {("scaled", scale): (scale * logits, labels) for scale in SCALES}
    blocks |= {("lowered", low): (scores, certain) for low, scores in lowered.items()}
    blocks["a score is NaN"] = logits.at[3, 2].set(jnp.nan), certain
    if soft:
        blocks["one-hot"] = logits, certain
    else:
        blocks["outside"] = logits, labels.at[0].set(-1).at[1].set(CLASSES)
    return blocks


def masked_inputs(form):
    """Blocks of logits, labels and masks, for the claims about some of the classes."""
    rng = np.random.default_rng(0)
    logits, integers = draw(rng, examples=BLOCK)
    where = without_the_next(integers)
    labels, certain, distribution = integers, integers, draw_soft(rng, examples=BLOCK)
    if form == "soft":
        labels = distribution * jnp.asarray(where, jnp.float32)
        labels, certain = labels / labels.sum(-1, keepdims=True), one_hot(integers)
    every = np.ones((BLOCK, CLASSES), bool)
    empty, no_label = every.copy(), every.copy()
    empty[2] = False
    no_label[0, integers[0]] = False
    blocks = {"a class": (logits, labels, where)}
    for bad in NON_NUMBERS:
        blocks["holds", str(bad)] = jnp.where(where, logits, bad), labels, where
    blocks["large scores"] = 1e4 * logits, labels, where
    blocks["none"] = logits, distribution if form == "soft" else integers, every
    blocks["all of an example"] = logits, labels, empty
    blocks["a label"] = logits, certain, no_label
    return blocks


class Evaluated(NamedTuple):
    """`losses` stand beside the gradients of their sum, `value` is the losses alone.

    Only unmasked blocks with soft labels have the gradient `in_labels`.
    """

    losses: np.ndarray
    in_logits: np.ndarray
    value: np.ndarray
    in_labels: np.ndarray | None = None


def batch_of(blocks):
    assert len(blocks) == BLOCKS
    return (jnp.concatenate(arrays) for arrays in zip(*blocks.values(), strict=True))


def by_block(blocks, **batch):
    """What was evaluated of a batch, by the names of its blocks."""
    parts = {
        name: np.split(np.asarray(array), BLOCKS)
        for name, array in batch.items()
        if array is not None
    }
    return {
        name: Evaluated(**{field: arrays[place] for field, arrays in parts.items()})
        for place, name in enumerate(blocks)
    }


@functools.cache
def whole(case, form):
    """All blocks of `whole_inputs`, evaluated."""
    blocks = whole_inputs(form)
    logits, labels = batch_of(blocks)
    if form == "integer":
        losses, in_logits, in_labels = *with_gradient(case, logits, labels), None
    else:
        losses, pullback = jax.vjp(case, logits, labels)
        in_logits, in_labels = pullback(jnp.ones_like(losses))
    value = case(logits, labels)
    return by_block(blocks, losses=losses, in_logits=in_logits, value=value, in_labels=in_labels)


@functools.cache
def masked(case, form):
    """All blocks of `masked_inputs`, evaluated."""
    blocks = masked_inputs(form)
    logits, labels, where = batch_of(blocks)
    losses, in_logits = with_gradient(case, logits, labels, where=where)
    value = case(logits, labels, where=where)
    return by_block(blocks, losses=losses, in_logits=in_logits, value=value)


@functools.cache
def ways(case):
    """The losses of one batch by JAX's ways to run them, from one program; the swept settings."""
    logits, labels = draw(np.random.default_rng(0), examples=BLOCK)
    lowered = jnp.where(without_the_next(labels), logits, -jnp.inf)
    settings = {name: jnp.float32(value) for name, value in case.hyperparameters.items()}
    sweep = {name: value + jnp.float32([0, 0.1, 0.2]) for name, value in settings.items()}

    @jax.jit
    def program(logits, labels, settings, sweep):
        found = {
            "jit": case(logits, labels),
            "vmap": jax.vmap(case)(logits, labels),
            "leading dimensions": case(logits.reshape(2, 3, CLASSES), labels.reshape(2, 3)),
            "unbatched": case(logits[0], labels[0]),
            "another axis": case(logits.T, labels, axis=0),
        }
        if settings:
            found["sweep"] = jax.vmap(lambda point: case(logits, labels, **point))(sweep)
            lowest = jax.grad(lambda settings: case(lowered, labels, **settings).sum())
            found["gradient of the settings"] = lowest(settings)
        return found

    return jax.tree.map(np.asarray, program(logits, labels, settings, sweep)), sweep


def eager(case):
    """What `ways` should find."""
    return whole(case, "integer")["scaled", 1.0].value


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


def test_every_public_name_has_a_case_or_a_reason_why_not():
    functions = {getattr(case.function, "__name__", None) for case in CASES.values()}
    with_a_case = {name for name in losses.__all__ if name in functions or name in CASES}
    assert not with_a_case & OTHERS.keys()
    assert with_a_case | OTHERS.keys() == set(losses.__all__)


def test_matches_its_definition(case, form):
    logits, labels = whole_inputs(form)["scaled", 1.0]
    found = whole(case, form)["scaled", 1.0].value
    np.testing.assert_allclose(found, case.expected(logits, labels), rtol=2e-5, atol=2e-5)


@of_unlike_losses
def test_values_and_gradients_in_float64_are_those_of_its_definition(case, rng):
    with jax.enable_x64(True):
        logits, labels = draw(rng, np.float64, BLOCK)
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


def test_integer_labels_equal_one_hot_labels(case):
    integer, one_hot = whole(case, "integer"), whole(case, "soft")
    np.testing.assert_allclose(
        integer["scaled", 1.0].value, one_hot["one-hot"].value, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_one_loss_per_example_in_the_dtype_of_the_logits(case, rng, dtype):
    logits, labels = draw(rng)
    found = case(logits.astype(dtype), labels)
    assert (found.shape, found.dtype) == (labels.shape, dtype)
    widened = case(logits.astype(dtype).astype(jnp.float32), labels)
    np.testing.assert_array_equal(found, widened.astype(dtype))


@of_unlike_losses
def test_jit_equals_eager(case):
    np.testing.assert_allclose(ways(case)[0]["jit"], eager(case), rtol=2e-6, atol=2e-6)


@of_unlike_losses
def test_vmap_equals_batch(case):
    np.testing.assert_allclose(ways(case)[0]["vmap"], eager(case), rtol=2e-6, atol=2e-6)


@of_unlike_losses
def test_class_axis_can_be_any(case):
    found = ways(case)[0]
    np.testing.assert_array_equal(found["another axis"], found["jit"])


@of_unlike_losses
def test_leading_batch_dimensions(case):
    folded = ways(case)[0]["leading dimensions"]
    np.testing.assert_allclose(folded.ravel(), eager(case), rtol=2e-6, atol=2e-6)


@of_unlike_losses
def test_an_unbatched_example(case):
    np.testing.assert_allclose(ways(case)[0]["unbatched"], eager(case)[0], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("case", parameters(CASES, ("aldr_kl",)))
def test_a_batch_without_examples_has_no_losses(case, rng):
    logits, labels = draw(rng)
    compiled = jax.jit(functools.partial(with_gradient, case))
    losses, gradient = compiled(logits[:0], labels[:0])
    assert (losses.shape, gradient.shape) == ((0,), (0, CLASSES))


def test_permuting_the_classes_changes_nothing(case, rng):
    logits, labels = draw(rng)
    order = rng.permutation(CLASSES)
    position = jnp.asarray(np.argsort(order), jnp.int32)
    found = case(logits[:, order], position[labels], **case.of_classes(order, CLASSES))
    np.testing.assert_allclose(found, case(logits, labels), rtol=5e-6, atol=5e-6)


def test_masked_classes_equal_removed_classes(case):
    """Labels of both forms, which are distributions where the classes have other numbers."""
    inputs = [masked_inputs(form)["a class"] for form in ("integer", "soft")]
    distributions = [one_hot(inputs[0][1]), inputs[1][1]]
    logits, where = (np.concatenate([one[i] for one in inputs]) for i in (0, 2))
    kept = np.nonzero(where)[1].reshape(2 * BLOCK, CLASSES - 1)
    arrays = [case.of_classes(classes, CLASSES) for classes in kept]
    arrays = jax.tree.map(lambda *rows: jnp.stack(rows), *arrays)
    removed = jax.jit(jax.vmap(lambda logits, labels, arrays: case(logits, labels, **arrays)))
    without = (
        np.take_along_axis(np.asarray(a), kept, 1) for a in (logits, np.concatenate(distributions))
    )
    expected = np.split(np.asarray(removed(*without, arrays)), 2)
    for form, removed in zip(("integer", "soft"), expected, strict=True):
        found = masked(case, form)["a class"].value
        np.testing.assert_allclose(found, removed, rtol=5e-6, atol=5e-6, err_msg=f"{form} labels")


def test_a_mask_of_no_class_changes_nothing(case, form):
    found, expected = masked(case, form)["none"], whole(case, form)["scaled", 1.0]
    np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(found.in_logits, expected.in_logits, rtol=2e-6, atol=2e-6)


def test_value_and_gradient_of_large_scores_are_finite_beside_a_masked_class(case, form):
    found = masked(case, form)["large scores"]
    assert np.isfinite(found.losses).all()
    assert np.isfinite(found.in_logits).all()


def test_fully_masked_is_zero_with_zero_gradient(case, form):
    found = masked(case, form)["all of an example"]
    assert found.losses[2] == 0
    assert np.isfinite(found.losses).all()
    assert np.isfinite(found.in_logits).all()
    np.testing.assert_array_equal(found.in_logits[2], 0)


def test_what_a_masked_class_holds_does_not_matter(case, form):
    found = masked(case, form)
    clean = found["a class"]
    for bad in map(str, NON_NUMBERS):
        held = found["holds", bad]
        np.testing.assert_allclose(held.losses, clean.losses, rtol=1e-6, err_msg=bad)
        np.testing.assert_allclose(
            held.in_logits, clean.in_logits, rtol=1e-6, atol=1e-7, err_msg=bad
        )


@pytest.mark.parametrize("scale", SCALES)
def test_value_and_gradient_are_finite_at_any_scale(case, form, scale):
    found = whole(case, form)["scaled", scale]
    assert np.isfinite(found.losses).all()
    assert np.isfinite(found.in_logits).all()


@pytest.mark.parametrize("case", parameters(BOUNDED))
def test_minus_infinity_removes_a_wrong_class_but_counts_it(case, form):
    removed, far = (whole(case, form)["lowered", low] for low in (-np.inf, -1e30))
    np.testing.assert_allclose(removed.losses, far.losses, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(removed.in_logits, far.in_logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE, UNLIKE))
def test_hyperparameter_gradients_are_finite_at_minus_infinity(case):
    gradients = ways(case)[0]["gradient of the settings"]
    assert all(np.isfinite(gradient) for gradient in gradients.values())


@pytest.mark.parametrize(
    "case", parameters({n: case for n, case in CASES.items() if not case.labels_held}, UNLIKE)
)
def test_gradients_with_soft_labels_match_finite_differences(case, rng):
    """Those in the labels, which leave the simplex here, and in the logits with them."""
    with jax.enable_x64(True):
        logits, _ = draw(rng, np.float64, BLOCK)
        labels = jnp.asarray(rng.dirichlet(np.ones(CLASSES), size=BLOCK))
        if case.detached:
            function, arguments, names = lambda labels: case(logits, labels), (labels,), ("labels",)
        else:
            function, arguments, names = case, (logits, labels), ("the logits", "the labels")
        slopes = compiled_slopes(function, arguments)
        assert_slopes(slopes, lambda *arguments: slopes(*arguments)[0], names, arguments)


@pytest.mark.parametrize("scale", SCALES[1:])
def test_soft_labels_have_finite_gradients_on_faces_of_the_simplex(case, scale):
    """The labels of two examples lie on one."""
    found = whole(case, "soft")["scaled", scale]
    assert np.isfinite(found.in_logits).all()
    assert np.isfinite(found.in_labels).all()


@pytest.mark.parametrize("scale", SCALES[:3])
def test_value_under_differentiation_is_the_value(case, scale):
    found = whole(case, "integer")["scaled", scale]
    # At a high temperature a sum that adds up in another order beside its derivative shows.
    np.testing.assert_array_max_ulp(found.losses, found.value, maxulp=0)


def test_labels_outside_the_classes_give_nan(case):
    found = whole(case, "integer")["outside"].value
    np.testing.assert_array_equal(np.isnan(found), np.arange(BLOCK) < 2)


def test_labels_on_masked_classes_give_nan(case, form):
    found = masked(case, form)["a label"].value
    np.testing.assert_array_equal(np.isnan(found), np.arange(BLOCK) == 0)


@pytest.mark.parametrize("form", ["integer", "soft"])
def test_nan_logits_give_nan(case, form):
    found = whole(case, form)["a score is NaN"].value
    np.testing.assert_array_equal(np.isnan(found), np.arange(BLOCK) == 3)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE))
def test_a_hyperparameter_per_example_equals_a_loop(case, rng):
    logits, labels = draw(rng)
    for name, value in case.hyperparameters.items():
        some = np.float32(value + 0.2 * rng.uniform(size=BLOCK))
        found = case(logits, labels, **{name: jnp.asarray(np.tile(some, BLOCKS))})
        one_by_one = [case(logits, labels, **{name: float(value)}) for value in some]
        expected = np.stack(one_by_one)[np.arange(EXAMPLES) % BLOCK, np.arange(EXAMPLES)]
        np.testing.assert_allclose(found, expected, rtol=5e-6, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("case", parameters(ADJUSTABLE, UNLIKE))
def test_traced_hyperparameters_can_be_swept_with_vmap(case):
    logits, labels = batch_of(whole_inputs("integer"))
    place = list(whole_inputs("integer")).index(("scaled", 1.0)) * BLOCK
    found, sweep = ways(case)
    for point in range(3):
        settings = {name: float(values[point]) for name, values in sweep.items()}
        expected = case(logits, labels, **settings)[place : place + BLOCK]
        np.testing.assert_allclose(found["sweep"][point], expected, rtol=5e-6, atol=5e-6)


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
        logits, labels = draw(rng, np.float64, BLOCK)
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
        with pytest.raises(
            ValueError, match=rf"{name} must be a scalar or .*shape \({EXAMPLES},\); got"
        ):
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
    logits, labels = draw(rng, examples=BLOCK)
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
    array = 4 * 64 * classes
    # With soft labels it keeps one array alone; of integers, the gather needs another backwards.
    is_lean = case.function is losses.normalized_negative_cross_entropy
    assert integers < temporary_bytes(logits) + (1.01 if is_lean else 0.5) * array
