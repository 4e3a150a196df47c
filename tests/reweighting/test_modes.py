"""Under JAX's ways to run: checks for NaN, and on an Explicit mesh, as `jax.make_mesh` makes it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from lnl_jax import reweighting

BALLS = {
    reweighting.kl_dro_weights: {"temperature": 0.7},
    reweighting.kl_dro_value: {"temperature": 0.7},
    reweighting.kl_ball_weights: {"radius": 0.2},
    reweighting.kl_ball_value: {"radius": 0.2},
    reweighting.chi2_ball_weights: {"radius": 0.2},
    reweighting.chi2_ball_value: {"radius": 0.2},
}
RANKED = {
    reweighting.cvar_weights: {"fraction": 0.4},
    reweighting.cvar_value: {"fraction": 0.4},
}
LOSSES = np.float32([0.3, 1.2, -0.4, 2.0])


def named(functions):
    return [pytest.param(f, s, id=f.__name__) for f, s in functions.items()]


def of_groups(losses, where=None):
    rows = jnp.zeros(2)
    groups = jnp.array([0, 1, 0, 1])
    return reweighting.group_dro_value(losses, groups, rows, step_size=0.1, where=where)[0]


@pytest.mark.parametrize(
    ("function", "settings"), [*named(BALLS | RANKED), pytest.param(of_groups, {}, id="groups")]
)
def test_a_batch_of_masked_losses_stops_no_search_for_nan(function, settings):
    def total(losses):
        return function(losses, where=np.zeros(4, bool), **settings).sum()

    with jax.debug_nans(True):
        value, gradient = jax.value_and_grad(total)(jnp.asarray(LOSSES))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def split_losses():
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Explicit,), devices=jax.devices()[:2])
    return mesh, jax.device_put(LOSSES, NamedSharding(mesh, P("data")))


@functools.cache
def of_all_balls(explicit):
    """The value and gradient of every function by its name, from one program."""

    def squares(function, losses):
        return (function(losses, **BALLS[function]) ** 2).sum()

    @jax.jit
    def program(losses):
        totals = {f.__name__: functools.partial(squares, f) for f in BALLS}
        return {name: jax.value_and_grad(total)(losses) for name, total in totals.items()}

    if not explicit:
        return program(jnp.asarray(LOSSES))
    mesh, losses = split_losses()
    with jax.set_mesh(mesh):
        return program(losses)


@pytest.mark.parametrize("name", [f.__name__ for f in BALLS])
def test_on_an_explicit_mesh_the_numbers_are_the_same(name):
    for a, b in zip(of_all_balls(True)[name], of_all_balls(False)[name], strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-6)


@pytest.mark.parametrize("function", [*RANKED, of_groups], ids=lambda f: f.__name__)
def test_what_sorts_or_looks_up_refuses_explicit_meshes_with_the_repair(function):
    mesh, losses = split_losses()
    call = functools.partial(function, **RANKED.get(function, {}))
    with (
        jax.set_mesh(mesh),
        pytest.raises(ValueError, match="losses is split .* lnl_jax.train.data_mesh"),
    ):
        call(losses)
