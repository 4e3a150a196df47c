"""Every loss of the room against its definition in float64 NumPy, and the contract of the room.

One program for all losses and one dtype, over batches that are stacked on the leading axis.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import semi_supervised
from tests.semi_supervised.cases import CASES, CLASSES, ELSEWHERE, EXAMPLES, LABELS

KEPT = np.arange(EXAMPLES) < 7
ALL = np.ones(EXAMPLES, bool)
every_loss = pytest.mark.parametrize("name", CASES)
every_risk = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.masked])


def drawn(seed):
    return 2 * np.random.default_rng(seed).normal(size=(EXAMPLES, CLASSES))


def spoilt(value, places=~KEPT):
    return np.where(places[:, None], value, drawn(0))


# Scores and the mask, by what is special about them.
BATCHES = {
    "ordinary": (drawn(0), ALL),
    "others": (drawn(1), np.random.default_rng(1).random(EXAMPLES) < 0.8),
    # The bracket of `nn_pu` is far below 0.
    "learnt": (np.where(LABELS == 1, 4.0, -4.0) + 0.1 * drawn(2), ALL),
    "masked": (drawn(0), KEPT),
    **{f"masked {value}": (spoilt(value), KEPT) for value in (0.0, 1e30, np.nan, np.inf)},
    "none": (np.full((EXAMPLES, CLASSES), np.nan), ~ALL),
    **{
        f"included nan at {place}": (spoilt(np.nan, np.arange(EXAMPLES) == place), ALL)
        for place in (0, 1)
    },
    **{
        f"up to {size:g} {pattern}": (
            np.tile(size * np.array(pattern)[:, None], (EXAMPLES // 2, CLASSES)),
            ALL,
        )
        for size in (0.0, 1e4, 1e15, 1e30)
        for pattern in ((1, 1), (-1, -1), (1, -1))
    },
}
NAMES = list(BATCHES)
SCORES, WHERE = (np.stack(parts) for parts in zip(*BATCHES.values(), strict=True))
DIFFERENTIATED = ("ordinary", "others", "learnt", "masked")
DIRECTION = np.random.default_rng(3).normal(size=(EXAMPLES, CLASSES))


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def evaluate(scores, where, numbers):
    """By loss: the losses, the slopes of their sum backwards, and the slope along forwards."""
    found = {}
    for name, case in CASES.items():

        def losses(scores, given, case=case):
            return case(scores, where, **given)

        value, pull_back = jax.vjp(losses, scores, numbers[name])
        slope, of_numbers = pull_back(jnp.ones_like(value))
        direction = jnp.asarray(DIRECTION, scores.dtype)
        still = jax.tree.map(jnp.zeros_like, numbers[name])
        _, along = jax.jvp(losses, (scores, numbers[name]), (direction, still))
        found[name] = {"losses": value, "slope": slope, "along": along}
        found[name] |= {f"of {number}": part for number, part in of_numbers.items()}
    return found


def numbers(dtype="float32", **changes):
    """Traced: none of them is a constant of the program."""
    return {
        name: {key: jnp.asarray(changes.get(key, n), dtype) for key, n in case.numbers.items()}
        for name, case in CASES.items()
    }


@functools.cache
def of_batches(dtype="float32"):
    """What the losses make of all batches: a dict of losses, of names, of arrays."""
    with np.errstate(over="ignore"):
        scores = SCORES.astype(jnp.dtype(dtype))
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("strict"):
        found = evaluate(jnp.asarray(scores), WHERE, numbers(dtype))
        return jax.tree.map(np.asarray, found)


def one(found, batch):
    return {key: part[NAMES.index(batch)] for key, part in found.items()}


def test_every_public_name_has_its_definition_or_a_reason():
    assert set(CASES) | set(ELSEWHERE) == set(semi_supervised.__all__)
    assert not set(CASES) & set(ELSEWHERE)


@every_loss
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 2e-5)])
def test_losses_are_as_defined(name, dtype, rtol):
    found, case = of_batches(dtype)[name], CASES[name]
    assert {str(part.dtype) for part in found.values()} == {dtype}
    for batch in (batch for batch in NAMES if not batch.startswith("up to ")):
        scores, where = BATCHES[batch]
        with np.errstate(all="ignore"):
            expected = case.expected(scores.astype(dtype), where)
        np.testing.assert_allclose(
            one(found, batch)["losses"], expected, rtol=rtol, atol=rtol, err_msg=batch
        )


@every_loss
def test_gradients_are_the_slopes_of_the_definition(name):
    """With what the gradient does not flow through held."""
    found, case = of_batches("float64")[name], CASES[name]
    for batch in DIFFERENTIATED:
        scores, where = BATCHES[batch]

        def total(step, at=scores, where=where, **changes):
            return case.expected(at + step, where, at, **changes).sum()

        ours = one(found, batch)
        along = (total(1e-5 * DIRECTION) - total(-1e-5 * DIRECTION)) / 2e-5
        np.testing.assert_allclose((ours["slope"] * DIRECTION).sum(), along, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(ours["along"].sum(), along, rtol=1e-7, atol=1e-8)
        for number, value in case.numbers.items():
            if number in case.moves:
                up, down = (total(0, **{number: value + step}) for step in (1e-5, -1e-5))
                np.testing.assert_allclose(ours[f"of {number}"], (up - down) / 2e-5, rtol=1e-7)
            else:
                assert ours[f"of {number}"] == 0


@every_risk
def test_a_masked_example_is_as_if_removed_whatever_it_holds(name):
    found = of_batches()[name]
    expected = one(found, "masked")
    for batch in (batch for batch in NAMES if batch.startswith("masked ")):
        ours = one(found, batch)
        for part in ("losses", "slope"):
            np.testing.assert_array_equal(ours[part], expected[part], err_msg=batch)
            assert (ours[part][~KEPT] == 0).all()


@every_risk
def test_a_batch_without_examples_has_no_loss_and_no_gradient(name):
    for part in one(of_batches()[name], "none").values():
        assert (part == 0).all()


@every_loss
def test_extreme_scores_have_finite_values_and_gradients(name):
    for batch in (batch for batch in NAMES if batch.startswith("up to ")):
        if np.abs(BATCHES[batch][0]).max() <= CASES[name].largest:
            ours = one(of_batches()[name], batch)
            for part in ("losses", "slope"):
                assert np.isfinite(ours[part]).all(), batch


@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision_is_computed_in_float32_and_rounded(name, dtype):
    found, case = of_batches(dtype)[name], CASES[name]
    assert {str(part.dtype) for part in found.values()} == {dtype}
    rounded = {key: float(jnp.asarray(n, dtype)) for key, n in case.numbers.items()}
    for batch in DIFFERENTIATED:
        scores, where = BATCHES[batch]
        scores = np.asarray(jnp.asarray(scores, dtype), np.float64)
        expected = case.expected(scores, where, **rounded)
        np.testing.assert_allclose(
            np.asarray(one(found, batch)["losses"], np.float64),
            expected,
            rtol=float(jnp.finfo(dtype).eps),
            atol=1e-5,
            err_msg=batch,
        )


def outside():
    return [
        pytest.param(name, number, bad, id=f"{name} {number} {bad}")
        for name, case in CASES.items()
        for number, numbers in case.outside.items()
        for bad in (*numbers, np.nan)
    ]


@pytest.mark.parametrize(("name", "number", "bad"), outside())
def test_a_number_out_of_range_raises_and_a_traced_one_gives_nan(name, number, bad):
    case = CASES[name]
    scores = jnp.asarray(BATCHES["ordinary"][0], jnp.float32)
    for given in (bad, np.float32(bad)):
        with pytest.raises(ValueError, match=f"{number} must be {case.bounds[number]}, got {bad}"):
            case(scores, **{number: given})
    found = evaluate(jnp.asarray(SCORES, jnp.float32), WHERE, numbers(**{number: bad}))
    assert np.isnan(one(found[name], "ordinary")["losses"]).all()
