"""Under JAX's ways to run: checks for NaN, not compiled, on Explicit meshes, in a shard_map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from lnl_jax import losses
from tests.losses.cases import CASES
from tests.losses.test_contract import (
    CLASSES,
    EXAMPLES,
    UNLIKE,
    draw,
    draw_soft,
    parameters,
    with_gradient,
)

REFUSE_MESHES = {name for name, case in CASES.items() if "matrix" in case.arrays}
ON_MESHES = {k: case for k, case in CASES.items() if k not in REFUSE_MESHES}


@pytest.mark.parametrize("case", parameters(CASES))
def test_a_row_of_masked_classes_stops_no_search_for_nan(case, rng):
    logits, labels = draw(rng)
    where = np.repeat(np.arange(EXAMPLES)[:, None] != 2, CLASSES, 1)
    for target in (labels, draw_soft(rng)):
        with jax.debug_nans(True):
            found, gradient = with_gradient(case, logits, target, where=where)
        assert found[2] == 0
        np.testing.assert_array_equal(gradient[2], 0)


@pytest.mark.parametrize("case", parameters(CASES, UNLIKE))
def test_without_compiling_the_numbers_are_the_same(case, rng):
    logits, labels = draw(rng)
    expected = with_gradient(case, logits, labels)
    with jax.disable_jit():
        found = with_gradient(case, logits, labels)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


def explicit_mesh():
    """As `jax.make_mesh` makes it unless told otherwise."""
    return jax.make_mesh((2,), ("data",), (AxisType.Explicit,), devices=jax.devices()[:2])


@pytest.mark.parametrize("case", parameters(ON_MESHES))
def test_on_an_explicit_mesh_value_and_gradient_are_split_as_the_logits_are(case, rng):
    """Where a result lies is decided when it is traced."""
    mesh, split = explicit_mesh(), P("data")
    logits, labels = draw(rng)
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, split)
        for target in (labels, draw_soft(rng)):
            arguments = (
                jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding) for a in (logits, target)
            )
            for found in jax.eval_shape(lambda *a: with_gradient(case, *a), *arguments):
                assert found.sharding.spec[0] == "data"


@pytest.mark.parametrize("classes", [5, 200], ids=["compared", "looked up"])
def test_on_an_explicit_mesh_the_numbers_are_the_same(rng, classes):
    mesh = explicit_mesh()
    logits = jnp.float32(rng.normal(size=(EXAMPLES, classes)))
    labels = jnp.int32(rng.integers(classes, size=EXAMPLES))
    expected = losses.mean_absolute_error(logits, labels)
    with jax.set_mesh(mesh):
        split = jax.device_put((logits, labels), NamedSharding(mesh, P("data")))
        found = losses.mean_absolute_error(*split)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=2e-6)


def test_what_looks_up_rows_of_a_matrix_refuses_explicit_meshes_with_the_repair(rng):
    mesh = explicit_mesh()
    for name in REFUSE_MESHES:
        with jax.set_mesh(mesh):
            split = jax.device_put(draw(rng), NamedSharding(mesh, P("data")))
            with pytest.raises(ValueError, match="labels is split .* lnl_jax.train.data_mesh"):
                CASES[name](*split)


@pytest.mark.parametrize("case", parameters(CASES, UNLIKE))
def test_in_a_shard_map_the_numbers_are_the_same(case, rng):
    logits, labels = draw(rng)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    local = jax.shard_map(
        lambda logits, labels: with_gradient(case, logits, labels),
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P("data"),
    )
    expected = with_gradient(case, logits, labels)
    for a, b in zip(jax.jit(local)(logits, labels), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
