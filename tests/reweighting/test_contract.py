"""Every rule of the room against its definition in float64 NumPy, and the contract of the room.

One program for all rules and one dtype, over batches that are stacked on the leading axis.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import reweighting
from tests.reweighting.cases import CASES, ELSEWHERE, EXAMPLES

KEPT = np.arange(EXAMPLES) < 8
ALL = np.ones(EXAMPLES, bool)
every_rule = pytest.mark.parametrize("rule", CASES)


def drawn(seed):
    return 2 * np.random.default_rng(seed).normal(size=EXAMPLES)


def spoilt(losses, value, places=~KEPT):
    return np.where(places, value, losses)


# Losses and the mask, by what is special about them.
BATCHES = {
    "ordinary": (drawn(0), ALL),
    "others": (drawn(2) - 1, np.random.default_rng(2).random(EXAMPLES) < 0.8),
    "many ties": (np.round(drawn(1)), np.random.default_rng(1).random(EXAMPLES) < 0.8),
    "equal": (np.full(EXAMPLES, 3.5), ALL),
    "masked": (drawn(0), KEPT),
    **{
        f"masked {value}": (spoilt(drawn(0), value), KEPT)
        for value in (0.0, 1e30, np.nan, np.inf, -np.inf)
    },
    "none": (np.full(EXAMPLES, np.nan), ~ALL),
    **{
        f"included {value}": (spoilt(drawn(0), value, np.arange(EXAMPLES) == 3), KEPT)
        for value in (np.nan, np.inf, -np.inf)
    },
    **{
        f"up to {size:g}": (
            spoilt(size * np.linspace(-1, 1, EXAMPLES), 1.0, np.arange(EXAMPLES) == 5),
            ALL,
        )
        for size in (0.0, 1e4, 1e30)
    },
}
NAMES = list(BATCHES)
LOSSES, WHERE = (np.stack(parts) for parts in zip(*BATCHES.values(), strict=True))
# A rounding of bfloat16 would reorder what nearly ties.
COMPARED = ["ordinary", "others", "many ties", "equal", "masked", "none"]


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def evaluate(losses, where, numbers):
    """By rule: weights, value, its slopes, and how fast the weights seem to move."""
    found = {}
    for rule, case in CASES.items():
        number = numbers[rule]
        value, slopes = jax.value_and_grad(case.value, (0, 1))(losses, number, where)
        along = (jnp.ones_like(losses), jnp.ones_like(number))
        weights, moved = jax.jvp(
            lambda *both, c=case: c.weigh(*both, where), (losses, number), along
        )
        found[rule] = {"weights": weights, "value": value, "moved": moved}
        found[rule] |= dict(zip(("slope", "of_number"), slopes, strict=True))
    return found


def numbers(dtype=jnp.float32, **changes):
    """Traced: none of them is a constant of the program."""
    given = {rule: changes.get(rule, case.number) for rule, case in CASES.items()}
    return {rule: jnp.asarray(number, dtype) for rule, number in given.items()}


@functools.cache
def of_batches(dtype="float32"):
    """What the rules make of all batches: a dict of rules, of names, of arrays."""
    with np.errstate(over="ignore"):
        losses = LOSSES.astype(jnp.dtype(dtype))
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("strict"):
        found = evaluate(jnp.asarray(losses), WHERE, numbers(dtype))
        return jax.tree.map(np.asarray, found)


def one(found, name):
    return {key: part[NAMES.index(name)] for key, part in found.items()}


def test_every_public_name_has_its_definition_or_a_reason():
    named = {name for case in CASES.values() for name in case.names}
    assert named | set(ELSEWHERE) == set(reweighting.__all__)
    assert not named & set(ELSEWHERE)


@every_rule
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 2e-5)])
def test_weights_and_values_are_as_defined(rule, dtype, rtol):
    found, case = of_batches(dtype)[rule], CASES[rule]
    assert (found["weights"].dtype, found["value"].dtype) == (dtype, dtype)
    for name, (losses, where) in BATCHES.items():
        weights, value = case.expected(losses.astype(dtype), np.asarray(case.number, dtype), where)
        ours = one(found, name)
        near = {"rtol": rtol, "err_msg": name}
        np.testing.assert_allclose(ours["weights"], weights, atol=rtol / 10, **near)
        scale = 0 if np.isnan(value) else np.abs(losses[where]).max(initial=0.0)
        np.testing.assert_allclose(ours["value"], value, atol=rtol * scale, **near)


@every_rule
def test_the_gradient_of_a_value_is_its_weights_and_the_slope_of_its_definition(rule):
    found, case = of_batches("float64")[rule], CASES[rule]
    for name in (name for name in NAMES if not name.startswith("included ")):
        ours = one(found, name)
        np.testing.assert_allclose(
            ours["slope"], ours["weights"], rtol=1e-9, atol=1e-15, err_msg=name
        )
    if case.held:
        return
    for name in ("ordinary", "others"):
        losses, where = BATCHES[name]

        def value(losses, number, where=where):
            return case.expected(losses, number, where)[1]

        for place in np.eye(EXAMPLES):
            up, down = (value(losses + step * place, case.number) for step in (1e-5, -1e-5))
            np.testing.assert_allclose(
                one(found, name)["slope"] @ place, (up - down) / 2e-5, atol=1e-7, err_msg=name
            )
        if case.moves:
            up, down = (value(losses, case.number + step) for step in (1e-5, -1e-5))
            np.testing.assert_allclose(one(found, name)["of_number"], (up - down) / 2e-5, rtol=1e-6)


@every_rule
def test_weights_are_data_and_only_a_price_has_a_gradient_in_its_hyperparameter(rule):
    found = of_batches()[rule]
    assert (found["moved"] == 0).all()
    if not CASES[rule].moves:
        assert (found["of_number"] == 0).all()


@every_rule
def test_a_masked_example_is_as_if_removed_whatever_it_holds(rule):
    found = of_batches()[rule]
    expected = one(found, "masked")
    for name in (name for name in NAMES if name.startswith("masked ")):
        ours = one(found, name)
        for part in ("weights", "value", "slope"):
            np.testing.assert_array_equal(ours[part], expected[part], err_msg=name)
        assert (ours["weights"][~KEPT] == 0).all()
        assert (ours["slope"][~KEPT] == 0).all()


@every_rule
def test_an_included_loss_that_is_not_finite_shows(rule):
    for name in (name for name in NAMES if name.startswith("included ")):
        ours = one(of_batches()[rule], name)
        np.testing.assert_array_equal(np.isnan(ours["weights"]), KEPT)
        assert np.isnan(ours["value"])


@every_rule
def test_large_losses_have_finite_values_and_weights_that_sum_to_one(rule):
    for name in (name for name in NAMES if name.startswith("up to ")):
        ours = one(of_batches()[rule], name)
        assert np.isfinite(ours["value"])
        np.testing.assert_allclose(ours["slope"].sum(), 1, rtol=1e-6)


@every_rule
def test_with_all_masked_there_is_no_weight_no_loss_and_no_gradient(rule):
    for part in one(of_batches()[rule], "none").values():
        assert (part == 0).all()


@every_rule
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision_is_computed_in_float32_and_rounded(rule, dtype):
    found, case = of_batches(dtype)[rule], CASES[rule]
    bound = float(jnp.finfo(dtype).eps)
    assert {str(part.dtype) for part in found.values()} == {dtype}
    for name in COMPARED:
        losses, where = BATCHES[name]
        losses = np.asarray(jnp.asarray(losses, dtype), np.float64)
        weights, value = case.expected(losses, float(jnp.asarray(case.number, dtype)), where)
        ours = one(found, name)
        for part, expected in (("weights", weights), ("slope", weights), ("value", value)):
            np.testing.assert_allclose(
                np.asarray(ours[part], np.float64), expected, rtol=bound, atol=1e-6, err_msg=name
            )


def outside():
    return [
        pytest.param(rule, bad, id=f"{rule} {bad}")
        for rule, case in CASES.items()
        for bad in (*case.outside, np.nan)
    ]


@pytest.mark.parametrize(("rule", "bad"), outside())
def test_a_number_out_of_range_raises_and_a_traced_one_gives_nan(rule, bad):
    case = CASES[rule]
    message = f"{case.hyperparameter} must be {case.bounds}, got {bad}"
    for function in (case.weigh, case.value):
        for given in (bad, np.float32(bad)):
            with pytest.raises(ValueError, match=message):
                function(jnp.arange(4, dtype=jnp.float32), given)
    found = evaluate(jnp.asarray(LOSSES, jnp.float32), WHERE, numbers(**{rule: bad}))[rule]
    ordinary = one(found, "ordinary")
    assert np.isnan(ordinary["weights"]).all()
    assert np.isnan(ordinary["value"])


@every_rule
def test_arguments_that_do_not_fit_raise_with_their_names(rule):
    losses, case = jnp.zeros(4), CASES[rule]
    for function in (case.weigh, case.value):
        with pytest.raises(ValueError, match=r"losses must be .*got int32 of shape \(4,\)"):
            function(jnp.zeros(4, jnp.int32), case.number)
        for shape in ((), (2, 2), (0,)):
            with pytest.raises(ValueError, match="losses must be floating with one value per ex"):
                function(jnp.zeros(shape), case.number)
        with pytest.raises(ValueError, match=r"where must be boolean of shape \(4,\).*int32"):
            function(losses, case.number, jnp.ones(4, jnp.int32))
        with pytest.raises(ValueError, match=r"where must be boolean .* got bool of shape \(1,\)"):
            function(losses, case.number, jnp.ones(1, bool))
        with pytest.raises(ValueError, match=r"must be a scalar, got shape \(4,\)"):
            function(losses, jnp.full(4, case.number))
