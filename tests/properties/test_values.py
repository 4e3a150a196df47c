"""Values of any size: compiled as not, mapped as in a loop, and in any order of the examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.losses.cases import CASES as OF_LOSSES
from tests.properties.calls import CALLS, B, K

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
# Unlike ones, for the fast tests; the command takes all.
FAST = (
    "losses.ldr_kl",
    "losses.bi_tempered_logistic",
    "losses.symmetric_cross_entropy",
    "losses.crammer_singer",
    "reweighting.cvar_weights",
    "metrics.negative_log_likelihood",
    "semi_supervised.pu_mlc",
    "contrastive.info_nce",
)
# What is drawn, and whether the results follow the order of the examples.
DRAWN = {
    "losses": ("logits", True),
    "reweighting": ("losses", True),
    "metrics": ("logits", False),
    "semi_supervised": ("logits", True),
    "contrastive": ("queries", True),
    "evaluation": ("queries", True),
}
EXTREMES = [0.0, -0.0, 1.0, -1.0, 1e-30, 1e4, -1e4, 1e15, -1e30, 1e30]
# Functions that take nothing but the drawn argument by batches, or are not of batches at all.
LEFT_OUT = ("generalized_jensen_shannon", "effective_rank", "unit_rows", "standardize")


def drawn_calls():
    found = {}
    for name, call in CALLS.items():
        room, _, function = name.partition(".")
        argument = DRAWN.get(room, ("",))[0]
        if argument in call.arguments and function not in LEFT_OUT:
            found[name] = call
    return found


DRAWN_CALLS = drawn_calls()
# Along the examples; what else is an argument stays as it is.
PER_EXAMPLE = ("labels", "where", "rows", "log_u", "targets", "positives")


def numbers(shape):
    one = st.one_of(st.floats(-50, 50, width=32), st.sampled_from(EXTREMES))
    size = int(np.prod(shape))
    return st.lists(one, min_size=size, max_size=size).map(
        lambda values: np.float32(values).reshape(shape)
    )


def _is_of_examples(name, value):
    return name in PER_EXAMPLE and all(
        np.shape(leaf)[:1] == (B,) for leaf in jax.tree.leaves(value)
    )


@functools.cache
def programs(name):
    """The function compiled of all examples, and mapped over several batches of them."""
    call, argument = DRAWN_CALLS[name], DRAWN[name.partition(".")[0]][0]
    along = {k: v for k, v in call.arguments.items() if _is_of_examples(k, v) or k == argument}

    def run(given):
        return jax.tree.leaves(call(**given))

    return along, argument, run, jax.jit(run), jax.jit(jax.vmap(run))


def near(found, expected, what):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(one, np.float64),
            np.asarray(other, np.float64),
            rtol=2e-4,
            atol=2e-5,
            err_msg=what,
        )


def hold(name, values, order):
    """Raises where an answer depends on how it was computed."""
    along, argument, run, compiled, mapped = programs(name)
    given = along | {argument: jnp.asarray(values)}
    expected = run(given)
    near(compiled(given), expected, "compiled")
    turned = jax.tree.map(lambda leaf: leaf[order], given)
    if argument == "queries":
        turned = given | {"queries": given["queries"], "labels": given.get("labels")}
        turned = {key: value for key, value in turned.items() if value is not None}
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), given, turned)
    found = mapped(both)
    near([leaf[0] for leaf in found], expected, "mapped")
    near([leaf[1] for leaf in found], compiled(turned), "mapped, the second batch")
    follows = DRAWN[name.partition(".")[0]][1] and argument != "queries"
    if follows:
        # A value of the whole batch does not follow the order, and does not depend on it.
        per_example = [leaf[order] if np.ndim(leaf) else leaf for leaf in expected]
        near([leaf[1] for leaf in found], per_example, "in another order")


def shape_of(name):
    call, argument = DRAWN_CALLS[name], DRAWN[name.partition(".")[0]][0]
    return np.shape(call.arguments[argument])


def test_what_is_drawn_is_of_every_room_with_values():
    assert {name.partition(".")[0] for name in DRAWN_CALLS} == set(DRAWN)
    assert len(DRAWN_CALLS) > len(OF_LOSSES) // 2
    assert K > 2


@pytest.mark.parametrize("name", FAST)
def test_values_come_out_alike_however_they_are_computed(name):
    @settings(max_examples=12, derandomize=True, **SETTINGS)
    @given(numbers(shape_of(name)), st.permutations(range(B)))
    def run(values, order):
        hold(name, values, np.array(order))

    run()
