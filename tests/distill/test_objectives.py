"""The properties that every objective of distillation has; rows of one batch are the cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import distill
from tests.distill.cases import OBJECTIVES

EXAMPLES, CLASSES = 6, 5
LABELS = jnp.array([3, 0, 4, 1, 1, 2])
FINITE = {name: case for name, case in OBJECTIVES.items() if not case.infinite}
LABELLED = {name: case for name, case in OBJECTIVES.items() if case.labels != "none"}
ADJUSTABLE = {name: case for name, case in OBJECTIVES.items() if case.hyperparameters}


def of(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


def draw(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(2 * rng.normal(size=(EXAMPLES, CLASSES)), dtype) for _ in range(2))


def special_points():
    """Scores all 0, of either sign; ties at the top; student and teacher equal, up to a constant.

    A teacher that scores minus infinity has a row where that is allowed.
    """
    logits, targets = (np.array(values, np.float64) for values in draw())
    logits[0], logits[1], targets[1] = 0, -0.0, 0
    logits[2, :3] = 1.5
    targets[3] = logits[3]
    targets[4] = logits[4] + 7
    return logits, targets


def with_gradient(case, logits, targets, labels, **settings):
    values, pullback = jax.vjp(lambda logits: case(logits, targets, labels, **settings), logits)
    return values, pullback(jnp.ones_like(values))[0]


def test_every_objective_has_a_case():
    """What takes scores of a student and of a teacher is one."""
    functions = {
        name: getattr(part, name)
        for part in (distill.labels, distill.projectors)
        for name in part.__all__
        if callable(getattr(part, name))
    }
    takes_both = {
        name
        for name, function in functions.items()
        if {"logits", "targets"} <= set(function.__annotations__)
    }
    assert takes_both == OBJECTIVES.keys()


@of(OBJECTIVES)
def test_matches_its_definition(case):
    logits, targets = draw()
    expected = case.expected(logits, targets, LABELS)
    np.testing.assert_allclose(case(logits, targets, LABELS), expected, rtol=2e-6, atol=2e-6)
    # Any number of axes stands before the classes.
    folded = case(
        *(values.reshape(2, 3, CLASSES) for values in (logits, targets)), LABELS.reshape(2, 3)
    )
    np.testing.assert_allclose(folded.ravel(), expected, rtol=2e-6, atol=2e-6)


@of(OBJECTIVES)
def test_first_and_second_derivatives_are_the_slopes_at_special_points_too(case):
    logits, targets = special_points()
    if not case.infinite:
        targets[5, 0] = -np.inf
    names = list(case.hyperparameters)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        values = [case.hyperparameters[name] for name in names]
        point = [logits, *(np.full(EXAMPLES, value) for value in values)]
        direction = [rng.normal(size=np.shape(part)) for part in point]

        def of_point(logits, *settings):
            return case(logits, targets, LABELS, **dict(zip(names, settings, strict=True)))

        @jax.jit
        def derivatives(*point):
            slope = jax.grad(lambda *point: of_point(*point).sum(), tuple(range(len(point))))
            bend = jax.jvp(slope, point, tuple(jnp.asarray(part) for part in direction))
            return bend, jax.grad(lambda targets: case(logits, targets, LABELS).sum())(targets)

        def moved(step):
            return [part + step * move for part, move in zip(point, direction, strict=True)]

        def definition(step):
            logits, *settings = moved(step)
            rows = [
                case.expected(
                    logits[i : i + 1],
                    targets[i : i + 1],
                    LABELS[i : i + 1],
                    **{n: s[i] for n, s in zip(names, settings, strict=True)},
                )
                for i in range(EXAMPLES)
            ]
            return np.concatenate(rows)

        (slopes, bends), to_teacher = derivatives(*(jnp.asarray(part) for part in point))
        along = sum(
            (np.asarray(s) * d).reshape(EXAMPLES, -1).sum(1)
            for s, d in zip(slopes, direction, strict=True)
        )
        expected = (definition(1e-6) - definition(-1e-6)) / 2e-6
        np.testing.assert_allclose(along, expected, rtol=1e-6, atol=1e-7)
        ends = [
            derivatives(*(jnp.asarray(part) for part in moved(step)))[0][0]
            for step in (1e-5, -1e-5)
        ]
        for found, up, down in zip(bends, *ends, strict=True):
            np.testing.assert_allclose(found, (up - down) / 2e-5, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(to_teacher, 0)


@of(OBJECTIVES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_for_storage_only(case, dtype):
    logits, targets = (values.astype(dtype) for values in draw())
    settings = {"temperature": 20.0} if "temperature" in case.hyperparameters else {}
    found = with_gradient(case, logits, targets, LABELS, **settings)
    wide = with_gradient(
        case, logits.astype(jnp.float32), targets.astype(jnp.float32), LABELS, **settings
    )
    for half, whole in zip(found, wide, strict=True):
        assert half.dtype == dtype
        np.testing.assert_array_equal(half, whole.astype(dtype))


@of(OBJECTIVES)
def test_float32_is_as_exact_at_large_scores(case):
    rng = np.random.default_rng(2)
    for scale in (1e2, 1e3, 1e4, 1e5):
        # A common part that the softmax does not see, and gaps of a few units.
        common = scale * rng.uniform(0.5, 1, size=(EXAMPLES, 1))
        logits, targets = (
            np.float32(common + 3 * rng.normal(size=(EXAMPLES, CLASSES))) for _ in range(2)
        )
        for settings in ({"temperature": 1.0}, {"temperature": 20.0}):
            settings = settings if "temperature" in case.hyperparameters else {}
            found = np.asarray(case(jnp.asarray(logits), jnp.asarray(targets), LABELS, **settings))
            expected = case.expected(logits, targets, LABELS, **settings)
            np.testing.assert_allclose(found, expected, rtol=3e-6, atol=1e-6, err_msg=f"{scale}")


@of(OBJECTIVES)
def test_value_and_gradient_are_finite_at_any_scale(case):
    logits, targets = draw()
    # Squares leave float32 beyond 1e19.
    for scale in (0.0, 1e4, 1e18 if case.infinite else 1e30):
        for part in with_gradient(case, scale * logits, scale * targets, LABELS):
            assert np.isfinite(part).all(), scale


@of(FINITE)
def test_a_class_that_neither_can_be_is_not_there(case):
    logits, targets = draw()
    low = (values.at[:, 2].set(-jnp.inf) for values in (logits, targets))
    fewer = [jnp.delete(values, 2, axis=1) for values in (logits, targets)]
    with jax.debug_nans(True), jax.disable_jit():
        value, gradient = with_gradient(case, *low, LABELS)
    expected, slope = with_gradient(case, *fewer, LABELS)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(jnp.delete(gradient, 2, axis=1), slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gradient[:, 2], 0)
    # What only the teacher rules out costs the student its mass; the reverse is infinite.
    ruled_out = with_gradient(case, logits, targets.at[:, 2].set(-jnp.inf), LABELS)
    far = with_gradient(case, logits, targets.at[:, 2].set(-1e30), LABELS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ruled_out, far)
    assert np.isposinf(case(logits.at[:, 2].set(-jnp.inf), targets, LABELS)).all()


@of(LABELLED)
def test_labels_are_read_as_those_of_the_losses(case):
    logits, targets = draw()
    wide = np.array([-1, 5, 2**32, 1, 1, 2])
    found = case(logits, targets, wide)
    np.testing.assert_array_equal(np.isnan(found), [True] * 3 + [False] * 3)
    narrow = case(logits, targets, np.asarray(LABELS, np.uint8))
    np.testing.assert_array_equal(narrow, case(logits, targets, LABELS))
    with pytest.raises(ValueError, match=r"labels must be integers.*drop the last axis"):
        case(logits, targets, LABELS[:, None])
    soft = jax.nn.one_hot(LABELS, CLASSES)
    if case.labels == "classes":
        with pytest.raises(ValueError, match="labels must be integers of shape"):
            case(logits, targets, soft)
    else:
        np.testing.assert_allclose(
            case(logits, targets, soft), case(logits, targets, LABELS), rtol=1e-6
        )
        # A class that the label does not have may score minus infinity.
        low = logits.at[:, 2].set(-jnp.inf)
        entropy = case(low, low.at[:, 2].set(0.0), jnp.eye(CLASSES)[jnp.zeros(EXAMPLES, int)])
        assert not np.isnan(entropy).any()


@of(OBJECTIVES)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda z, t: (z, t[:, :1]), r"targets must be floating of shape \(6, 5\).*\(6, 1\)"),
        (lambda z, t: (z, t[0]), r"targets must be floating of shape \(6, 5\).*\(5,\)"),
        (lambda z, t: (z, jnp.zeros((6, 5), int)), "targets must be floating.*got int32"),
        (lambda z, t: (jnp.zeros((6, 5), int), t), "logits must be floating, got int32"),
        (lambda z, t: (z[0, 0], t[0, 0]), "logits must have a class axis"),
    ],
    ids=["a column", "one row", "integer targets", "integer logits", "scalars"],
)
def test_scores_that_do_not_fit_are_refused(case, spoil, message):
    with pytest.raises(ValueError, match=message):
        case(*spoil(*draw()), LABELS)


@of(ADJUSTABLE)
def test_hyperparameters_are_one_per_example_or_for_all_and_within_their_range(case):
    logits, targets = draw()
    for name, value in case.hyperparameters.items():
        each = value + 0.3 * np.arange(EXAMPLES, dtype=np.float32)
        found = case(logits, targets, LABELS, **{name: jnp.asarray(each)})
        expected = [
            case.expected(logits[i : i + 1], targets[i : i + 1], LABELS[i : i + 1], **{name: v})[0]
            for i, v in enumerate(each)
        ]
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
        for bad in (case.outside[name], float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{name} must be .*got {bad}"):
                case(logits, targets, LABELS, **{name: bad})
        assert np.isnan(
            case(logits, targets, LABELS, **{name: jnp.float32(case.outside[name])})
        ).all()
        with pytest.raises(ValueError, match=f"{name} must be a scalar or have one value per"):
            case(logits, targets, LABELS, **{name: jnp.ones((EXAMPLES, CLASSES))})
