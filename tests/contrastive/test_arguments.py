"""What contrastive losses refuse, in one clear line, and what they read in several forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import contrastive
from tests.contrastive.test_contrastive import LEARNT, SETTINGS, fresh, unit

Z = jnp.eye(4)
BAD, UNENDING = float("nan"), float("inf")
WIDE = np.array([0, 2**32, 1, 2])

info_nce = functools.partial(contrastive.info_nce, Z, Z, temperature=1.0)


def isogclr(**change):
    return contrastive.isogclr(Z, Z, fresh(4), **SETTINGS | change)


def learnt(**change):
    return isogclr(temperatures=LEARNT._replace(**change))


def sogclr(gamma):
    return contrastive.sogclr(Z, Z, jnp.zeros(4), temperature=1.0, gamma=gamma)


def fastclip(temperature=1.0, rho=0.1, gamma=1.0):
    given = {"temperature": temperature, "rho": rho, "gamma": gamma}
    return contrastive.fastclip(Z, Z, jnp.zeros(4), **given)


def sigmoid(**change):
    return contrastive.sigmoid_contrastive(Z, Z, **{"temperature": 1.0, "bias": 0.0} | change)


def step(**change):
    return contrastive.temperature_step(fresh(4), jnp.ones(4), LEARNT._replace(**change))


def scent_gamma(**change):
    return contrastive.scent_gamma(**{"log_u": jnp.zeros(4), "log_step": 1.0} | change)


def cosine_gamma(**change):
    return contrastive.cosine_gamma(1.0, **{"minimum": 0.2, "decay_epochs": 4} | change)


def of_similarities(negatives, **change):
    given = {"temperature": 1.0} | change
    return contrastive.similarity_statistics(jnp.ones(4), negatives, **given)


def refusals():
    """A call and what its message says."""
    two = "must be two finite numbers above 0, the lower one first"
    bad = [
        (0.0, 1.0),
        (0.5, 0.1),
        (BAD, 1.0),
        (0.1, BAD),
        (0.1, UNENDING),
        0.1,
        (0.1,),
        jnp.ones(3),
    ]
    for bounds in (*bad, np.array([0.5, 0.1]), (Z, 1.0)):
        for call in (learnt, step):
            yield call, {"range": bounds}, f"temperatures.range {two}"
    for value in (BAD, 0.0, 1.5):
        for call in (isogclr, sogclr, fastclip):
            yield call, {"gamma": value}, "gamma must be above 0 and at most 1"
        for call in (learnt, step):
            yield call, {"momentum": value}, "temperatures.momentum must be above 0"
        yield cosine_gamma, {"minimum": value}, "minimum must be above 0 and at most 1"
    for value in (BAD, UNENDING, -1.0):
        for call in (learnt, fastclip):
            yield call, {"rho": value}, "rho must be at least 0"
        for call in (learnt, step):
            yield call, {"step": value}, "temperatures.step must be at least 0"
        yield cosine_gamma, {"decay_epochs": value}, "decay_epochs must be at least 1"
        for call in (info_nce, fastclip, sigmoid):
            yield call, {"temperature": value}, "temperature must be above 0"
    for value in (BAD, UNENDING, -UNENDING):
        yield sigmoid, {"bias": value}, "bias must be finite"
    for value in (BAD, 0.0, -1.0):
        yield learnt, {"clip": value}, "temperatures.clip must be above 0"
    for name in ("rho", "step", "momentum", "clip"):
        yield learnt, {name: 0.1 * jnp.ones(4)}, f"temperatures.{name} must be a scalar"
    for call in (isogclr, sogclr, fastclip):
        yield call, {"gamma": 0.1 * jnp.ones(3)}, r"one per example, \(4,\); got"
    for value in (BAD, UNENDING, -UNENDING):
        yield scent_gamma, {"log_step": value}, "log_step must be finite"
    yield scent_gamma, {"log_step": jnp.ones(3)}, r"log_step must be a scalar or one per example"
    yield scent_gamma, {"log_u": jnp.ones(4, int)}, "log_u must be floating, got int32"
    written = r"got dict; write Temperatures\(\*\*temperatures\)"
    yield isogclr, {"temperatures": LEARNT._asdict()}, written
    yield isogclr, {"temperatures": 0.1}, "temperatures must be contrastive.Temperatures, got float"
    for value in (0, 1.5, True):
        for call in (info_nce, isogclr, sigmoid):
            yield call, {"block_size": value}, "block_size must be an integer from 1"
    for call in (info_nce, sigmoid, isogclr):
        yield call, {"query_index": WIDE, "key_index": WIDE}, "query_index must fit into 32 bits"
        yield call, {"query_index": jnp.arange(4.0), "key_index": WIDE}, "query_index must be integ"
        yield call, {"query_index": jnp.arange(4), "key_index": WIDE}, "key_index must fit into 32"
        yield call, {"query_index": jnp.arange(4)}, "must be given together"
        for mask in (0.5 * Z, Z.astype(int)):
            yield call, {"where": mask}, "where must be boolean"
        yield call, {"where": jnp.ones((3, 4), bool)}, "where must broadcast to the shape"
        for places in (jnp.zeros(2, int), jnp.arange(4.0), jnp.ones(4, bool)):
            yield call, {"positives": places}, "positives must be indices into keys, integers of"
    unlike = {"query_index": jnp.arange(4), "key_index": jnp.arange(4).astype(jnp.uint32)}
    yield info_nce, unlike, "query_index and key_index must have one dtype"
    yield of_similarities, {"negatives": Z, "where": Z}, "where must be boolean"
    yield of_similarities, {"negatives": Z.astype(int)}, "floating of one dtype"


@pytest.mark.filterwarnings("ignore:rho is inf")
def test_what_makes_no_sense_is_refused_in_one_line_that_names_it():
    for call, given, message in refusals():
        with pytest.raises(ValueError, match=message) as found:
            call(**given)
        assert "\n" not in str(found.value), given


def test_hyperparameters_out_of_range_under_jit_give_nan():
    @jax.jit
    def losses(bad):
        return sogclr(bad)[0], fastclip(rho=bad)[0], sigmoid(bias=bad), info_nce(temperature=bad)

    assert all(np.isnan(part).all() for part in losses(jnp.float32(-jnp.inf)))


def test_temperatures_that_are_traced_give_the_same_and_nan_out_of_range():
    @jax.jit
    def moved(temperatures):
        return isogclr(temperatures=temperatures)[1].temperature, step(**temperatures._asdict())

    given = LEARNT._replace(clip=0.4)
    here = isogclr(temperatures=given)[1].temperature, step(clip=0.4)
    for there in (moved(given), moved(given._replace(range=jnp.array(given.range)))):
        jax.tree.map(np.testing.assert_array_equal, there, here)
    wrong = {"rho": -1.0, "step": -0.1, "momentum": 1.5, "clip": -1.0, "range": (0.0, 1.0)}
    ranges = [{"range": bounds} for bounds in ((0.5, 0.1), (BAD, 1.0), (0.1, UNENDING))]
    for change in [{name: value} for name, value in wrong.items()] + ranges:
        one, other = moved(given._replace(**change))
        assert np.isnan(one).all(), change
        # The step itself reads three of them.
        assert np.isnan(other.temperature).all() == (not {"rho", "clip"} & set(change)), change


def test_wide_indices_that_jax_holds_are_compared_whole(float64):
    """Of 64 bits where these are on; of 32 bits without a sign."""
    wide = jnp.asarray(WIDE)
    count = jax.jit(
        lambda index: (
            contrastive.contrastive_statistics(
                jnp.eye(4), jnp.eye(4), temperature=1.0, query_index=index, key_index=index
            ).count
        )
    )
    assert wide.dtype == jnp.int64
    assert count(wide).tolist() == [3, 3, 3, 3]
    assert count(jnp.array([0, 2**31, 2**31, 2**32 - 1], jnp.uint32)).tolist() == [3, 2, 2, 3]


def test_a_place_that_only_fits_into_64_bits_is_no_key():
    values = info_nce(positives=np.array([0, 2**32 + 1, 2, 3]))
    assert np.isnan(values).tolist() == [False, True, False, False]


@pytest.mark.parametrize("size", [None, 2])
def test_a_mask_of_examples_stands_for_all_their_views(rng, size):
    z, mask = unit(rng, 2, 3, 4), jnp.array([True, False, True])
    each = jax.jit(
        lambda z, mask: contrastive.info_nce(z, z, temperature=0.2, where=mask, block_size=size)
    )
    np.testing.assert_array_equal(each(z, mask), each(z, jnp.tile(mask, 2)))
    assert not np.array_equal(each(z, mask), each(z, ~mask))


@pytest.mark.parametrize("size", [None, 2])
def test_a_masked_key_may_be_anything(rng, size):
    z, broken = unit(rng, 4, 3), unit(rng, 5, 3).at[4].set(jnp.nan)

    @jax.jit
    def gradients(keys):
        def total(queries, keys):
            given = {"where": jnp.arange(5) < 4, "block_size": size, "temperature": 0.2}
            values = contrastive.info_nce(queries, keys, **given)
            return (
                values + contrastive.sigmoid_contrastive(queries, keys, bias=0.0, **given)
            ).sum()

        return jax.grad(total, (0, 1))(z, keys)

    whole = broken.at[4].set(0)
    for actual, expected in zip(gradients(broken), gradients(whole), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_batch_without_anchors_has_no_losses():
    for size in (None, 2):
        assert contrastive.info_nce(Z[:0], Z, temperature=1.0, block_size=size).shape == (0,)
    with pytest.raises(ValueError, match="keys must have at least one row"):
        contrastive.info_nce(Z, Z[:0], temperature=1.0, positives=jnp.zeros(4, int))


def test_arrays_split_over_an_explicit_mesh_are_refused_with_the_repair():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    split, whole = (
        jax.device_put(Z, jax.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)))
        for axes in (("data",), ())
    )
    rows, given = fresh(4), {"temperature": 1.0}
    with jax.set_mesh(mesh):
        calls = {
            "queries": lambda: contrastive.info_nce(split, split, **given),
            "keys": lambda: contrastive.sigmoid_contrastive(whole, split, bias=0.0, **given),
            "where": lambda: contrastive.info_nce(whole, whole, where=split > 0, **given),
            "temperature": lambda: contrastive.info_nce(whole, whole, temperature=1 + split[:, 0]),
            "log_u": lambda: contrastive.sogclr(whole, whole, split[:, 0], gamma=1.0, **given),
            "rows": lambda: contrastive.isogclr(
                whole, whole, rows._replace(velocity=split[:, 0]), **SETTINGS
            ),
            "positive": lambda: contrastive.similarity_statistics(split[:, 0], whole, **given),
            "batch": lambda: contrastive.cached_contrastive_grads(None, None, split, None, 2),
        }
        for name, call in calls.items():
            with pytest.raises(ValueError, match=f"{name} is split .* lnl_jax.train.data_mesh"):
                call()
        at_once = contrastive.info_nce(whole, whole, **given)
    np.testing.assert_allclose(at_once, info_nce(), rtol=1e-6)


@pytest.mark.parametrize("size", [None, 2])
def test_nothing_is_nan_on_the_way_where_all_keys_are_masked(size):
    rows, given = fresh(4), {"block_size": size}
    given["where"] = jnp.zeros((4, 4), bool).at[0].set(True)

    @jax.grad
    def gradient(z):
        each = [
            contrastive.info_nce(z, z, temperature=0.1, **given),
            contrastive.decoupled_contrastive(z, z, temperature=0.1, **given),
            contrastive.sigmoid_contrastive(z, z, temperature=0.1, bias=0.0, **given),
            contrastive.isogclr(z, z, rows, **SETTINGS | {"gamma": 1.0}, **given)[0],
            contrastive.fastclip(z, z, rows.log_u, temperature=0.1, rho=0.1, gamma=1.0, **given)[0],
        ]
        return sum(part.sum() for part in each)

    with jax.debug_nans(True):
        one_by_one = gradient(Z)
    np.testing.assert_allclose(one_by_one, jax.jit(gradient)(Z), rtol=1e-4, atol=1e-5)
