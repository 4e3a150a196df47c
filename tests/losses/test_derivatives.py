"""First and second derivatives in float64 against differences, at ordinary and at special scores.

Special are those at which a formula that is right elsewhere can go wrong: all scores 0, as a head
that starts at zero gives them, a negative zero, the label's own score tied with the maximum.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lnl_jax import losses
from tests.losses.cases import CASES, Case
from tests.losses.test_contract import parameters

CLASSES = 5
# Scores and a label; up to ORDINARY, nothing ties and no score is 0.
ROWS = {
    "ordinary, the label is likely": ([2.3, 0.4, -1.1, 0.8, -0.2], 0),
    "ordinary, the label is unlikely": ([-1.2, 0.3, 1.7, -0.6, 0.9], 0),
    "all scores 0": ([0, 0, 0, 0, 0], 0),
    "all scores a negative 0": ([-0.0, -0.0, -0.0, -0.0, -0.0], 3),
    "zeros of both signs": ([0, -0.0, 0, -0.0, 0], 1),
    "the label's score ties with the maximum, before it": ([1.5, 1.5, 0, -1, -1], 0),
    "the label's score ties with the maximum, after it": ([-1, 0, 1.5, -1, 1.5], 4),
    "two others tie for the maximum": ([1.5, 0, 1.5, -1, 0], 3),
}
ORDINARY = 2
STEP = 1e-5
WEIGHTS = np.array([1.0, -2.0, 3.0, 5.0, -1.0])


def normalisation(normalize, kinks="", **hyperparameters):
    """A normalisation as a loss: its scores weighed, so that no part of the gradient cancels."""

    def loss(logits, _, **settings):
        return normalize(logits, **settings) @ jnp.asarray(WEIGHTS)

    return Case(loss, None, hyperparameters, kinks=kinks)


NORMALISATIONS = {
    "softplus_mean_normalize": normalisation(losses.softplus_mean_normalize),
    "l1_mean_normalize": normalisation(losses.l1_mean_normalize, "a score of 0"),
    "logit_normalize": normalisation(losses.logit_normalize, "all scores 0", temperature=0.4),
}
EVERY = CASES | NORMALISATIONS
INTEGER = parameters(EVERY, EVERY)
SOFT = parameters(CASES)


def rows_of(case, soft):
    """Scores, distributions if they are soft, hyperparameters and arrays, of all rows; labels."""
    rows = list(ROWS.values())[: ORDINARY if case.kinks else None]
    logits, labels = (np.array(column) for column in zip(*rows, strict=True))
    arguments = {"logits": logits.astype(np.float64)}
    if soft:
        drawn = np.random.default_rng(0).dirichlet(np.ones(CLASSES), size=len(rows))
        # Away from 0, where the logarithm of a label bends too much for a difference.
        arguments["labels"] = 0.7 * drawn + 0.3 / CLASSES
    # Away from the bounds: the matrix of the corrections holds a 0.
    values = {name: make(CLASSES) + 1e-3 for name, make in case.arrays.items()}
    values |= {name: np.float64(value + 0.05) for name, value in case.hyperparameters.items()}
    arguments |= {name: np.repeat(value[None], len(rows), 0) for name, value in values.items()}
    return arguments, labels.astype(np.int32)


def compiled_derivatives(case):
    """Of each row: the value, its gradient, and its Hessian times a direction."""

    def along(arguments, label, direction):
        def value_and_gradient(arguments):
            return jax.value_and_grad(lambda moved: case(**{"labels": label} | moved))(arguments)

        (value, gradient), (_, curvature) = jax.jvp(value_and_gradient, (arguments,), (direction,))
        return value, gradient, curvature

    return jax.jit(jax.vmap(along))


def inner_product(left, right):
    """Over all arguments, per row."""
    return sum(
        (np.asarray(left[name]) * a).reshape(len(a), -1).sum(-1) for name, a in right.items()
    )


@pytest.mark.parametrize(
    ("case", "soft"),
    [pytest.param(*p.values, False, id=f"{p.id}-integer", marks=p.marks) for p in INTEGER]
    + [pytest.param(*p.values, True, id=f"{p.id}-soft", marks=p.marks) for p in SOFT],
)
def test_first_and_second_derivatives_are_those_of_differences(case, soft):
    with jax.enable_x64(True):
        arguments, labels = rows_of(case, soft)
        rng = np.random.default_rng(1)
        direction = {name: rng.normal(size=np.shape(a)) for name, a in arguments.items()}
        # A distribution stays one; along the constant the losses need not be their formulas.
        if soft:
            direction["labels"] -= direction["labels"].mean(-1, keepdims=True)
        evaluate = compiled_derivatives(case)

        def at(step):
            moved = {name: a + step * direction[name] for name, a in arguments.items()}
            return evaluate(moved, labels, direction)

        (_, gradient, curvature), below, above = at(0.0), at(-STEP), at(STEP)
        if not case.detached:
            np.testing.assert_allclose(
                inner_product(gradient, direction),
                (above[0] - below[0]) / (2 * STEP),
                rtol=1e-6,
                atol=1e-6,
                err_msg="The gradient is not the slope.",
            )
        for name, found in ({} if case.detached else curvature).items():
            change = (np.asarray(above[1][name]) - np.asarray(below[1][name])) / (2 * STEP)
            if name == "labels":
                change -= change.mean(-1, keepdims=True)
                found = found - found.mean(-1, keepdims=True)
            np.testing.assert_allclose(
                found,
                change,
                rtol=1e-5,
                atol=1e-6,
                err_msg=f"The derivative of the gradient in {name} is not its slope.",
            )


def gradient_of(function, *arguments):
    """Of the sum of its values, in the first argument, in float64."""
    with jax.enable_x64(True):
        first, *others = arguments
        return jax.jit(jax.grad(lambda moved: function(moved, *others).sum()))(jnp.asarray(first))


def test_an_absolute_error_of_zero_has_no_slope():
    """A head that starts at zero and a label that is uniform over the first classes."""
    labels = np.array([[0.2, 0.2, 0.2, 0.3, 0.1]])
    np.testing.assert_allclose(
        gradient_of(losses.mean_absolute_error, np.zeros((1, CLASSES)), labels),
        [[0, 0, 0, -0.2, 0.2]],
        atol=1e-15,
    )


def test_of_equal_maxima_the_first_is_meant():
    tied = np.array([[0.0, 2.0, 2.0, 0.0, 2.0]])
    found = gradient_of(losses.crammer_singer, tied, np.array([0]))
    np.testing.assert_array_equal(found, [[-1, 1, 0, 0, 0]])
    # The label ties before the others are raised by the margin.
    found = gradient_of(losses.crammer_singer, tied, np.array([1]))
    np.testing.assert_array_equal(found, [[0, -1, 1, 0, 0]])

    def bootstrap(logits, labels):
        return losses.hard_bootstrap(logits, labels, weight=0.25)

    p = special.softmax(tied, -1)
    np.testing.assert_allclose(
        gradient_of(bootstrap, tied, np.array([0])), p - [[0.25, 0.75, 0, 0, 0]], rtol=1e-12
    )


def test_a_violation_of_exactly_zero_has_no_slope():
    def hinge(logits, labels):
        return losses.weston_watkins(logits, labels, margin=1.0)

    logits = np.array([[1.0, 0.0, 3.0, -1.0, -0.0]])
    np.testing.assert_allclose(
        gradient_of(hinge, logits, np.array([0])), [[-0.2, 0, 0.2, 0, 0]], rtol=1e-12
    )


def test_a_label_believed_just_at_the_threshold_has_no_slope():
    def truncated(logits, labels):
        return losses.truncated_generalized_cross_entropy(logits, labels, threshold=1.0)

    certain = np.array([[0.0, -1e4, -1e4, -1e4, -1e4]])
    np.testing.assert_array_equal(gradient_of(truncated, certain, np.array([0])), 0)


def test_a_score_of_zero_does_not_move_the_mean_absolute_value():
    scores, weights = np.array([0.0, 1, -2, 3, -0.0]), WEIGHTS
    normalize = NORMALISATIONS["l1_mean_normalize"]
    sign, mean = np.sign(scores), np.abs(scores).mean()
    expected = weights / mean - scores @ weights / mean**2 * sign / CLASSES
    np.testing.assert_allclose(gradient_of(normalize, scores, None), expected, rtol=1e-12)


def test_scores_that_are_all_zero_pass_the_gradient_on():
    heads = np.stack([np.zeros(CLASSES), -np.zeros(CLASSES)])
    for name, scale in (("l1_mean_normalize", 1), ("logit_normalize", 1 / 0.4)):
        found = gradient_of(NORMALISATIONS[name], heads, None)
        np.testing.assert_allclose(found, np.tile(scale * WEIGHTS, (2, 1)), rtol=1e-12)
