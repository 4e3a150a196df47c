"""Selection by small loss against sorting, and the exchange of two networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.reweighting import (
    co_teaching_weights,
    small_loss_weights,
    small_loss_weights_by_class,
)


def by_sorting(losses, where, kept):
    places = np.flatnonzero(where)
    chosen = places[np.argsort(losses[places], kind="stable")[:kept]]
    return np.isin(np.arange(len(losses)), chosen).astype(float)


def test_the_smallest_losses_are_kept_the_earlier_of_equals(rng):
    losses = np.float32(np.round(rng.normal(size=(40, 10)), 1))
    where = rng.random((40, 10)) < 0.8
    rates = np.float32(rng.choice([0, 0.1, 0.3, 0.5, 0.9], 40))
    weigh = jax.jit(jax.vmap(lambda v, r, w: small_loss_weights(v, forget_rate=r, where=w)))
    found = weigh(losses, rates, where)
    for one, row, rate, kept in zip(found, losses, rates, where, strict=True):
        count = int((1 - round(float(rate), 3)) * kept.sum() + 1e-9)
        np.testing.assert_array_equal(one, by_sorting(row, kept, count))


def test_nothing_is_forgotten_at_rate_0_and_nothing_may_be_left():
    losses, spoilt = np.float32([3, 1, 2]), np.float32([np.nan, 1, 2])
    weigh = jax.jit(small_loss_weights)
    np.testing.assert_array_equal(weigh(losses, forget_rate=0.0), np.ones(3))
    np.testing.assert_array_equal(weigh(losses, forget_rate=0.9), np.zeros(3))
    assert np.isnan(weigh(spoilt, forget_rate=0.5)).all()
    masked = weigh(spoilt, forget_rate=0.5, where=np.array([False, True, True]))
    np.testing.assert_array_equal(masked, [0, 1, 0])


def test_selection_within_classes_keeps_as_many_of_each(rng):
    losses = np.float32(np.abs(np.sin(0.9 * np.arange(12) + 0.4)))
    classes = np.array([0] * 7 + [1] * 3 + [2] * 2)
    weigh = jax.jit(functools.partial(small_loss_weights_by_class, num_classes=3))
    found = weigh(losses, classes, forget_rate=0.5)
    np.testing.assert_array_equal(np.flatnonzero(found), [0, 3, 7, 9, 10, 11])
    # A label that is no class is not chosen.
    found = weigh(losses, np.where(classes == 1, -1, classes), forget_rate=0.0)
    assert not found[7:10].any()


def test_each_network_is_taught_by_the_other(rng):
    @jax.jit
    def program(losses):
        exchanged = functools.partial(co_teaching_weights, forget_rate=0.25)
        slope = jax.grad(lambda v: (exchanged(v) * v).sum())(losses)
        return exchanged(losses), slope, jax.vmap(own_weights)(losses)

    own_weights = functools.partial(small_loss_weights, forget_rate=0.25)
    found, slope, own = map(np.asarray, program(np.float32(rng.random((2, 20)))))
    np.testing.assert_array_equal(found, own[::-1])
    np.testing.assert_array_equal(slope, found)


REFUSED = {
    "a rate of 1": (lambda: small_loss_weights(jnp.ones(3), forget_rate=1.0), "forget_rate must"),
    "a negative rate": (
        lambda: co_teaching_weights(jnp.ones((2, 3)), forget_rate=-0.1),
        "forget_rate must be at least 0 and below 1",
    ),
    "three networks": (
        lambda: co_teaching_weights(jnp.ones((3, 3)), forget_rate=0.1),
        r"losses must be those of two networks, shape \[2, B\], got \(3, 3\)",
    ),
    "classes of floats": (
        lambda: small_loss_weights_by_class(
            jnp.ones(3), jnp.ones(3), num_classes=2, forget_rate=0.1
        ),
        "classes must",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
