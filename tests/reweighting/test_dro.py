"""Robust optimisation over examples: the worst weights, against scipy, and how they are used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from scipy import optimize, special

from lnl_jax import train
from lnl_jax.reweighting import (
    cvar_value,
    cvar_weights,
    group_dro_value,
    group_dro_weights,
    kl_dro_value,
    kl_dro_weights,
)
from tests.compiled import AS_USERS_DO
from tests.reweighting.cases import CASES, EXAMPLES, GROUPS, Q

# Evaluated eagerly, a loop is compiled again at every call.
RULES = {
    name: (jax.jit(case.weigh), jax.jit(case.value), case.number) for name, case in CASES.items()
}
BALLS = ("kl_ball", "chi2_ball")
every_rule = pytest.mark.parametrize("rule", RULES)
every_ball = pytest.mark.parametrize("rule", BALLS)


def fast(values, all_values):
    """All values, those that are not among the first ones for the slow tests."""
    return [pytest.param(v, marks=() if v in values else pytest.mark.slow) for v in all_values]


def divergence(rule, weights):
    """Of weights from uniform, in float64."""
    relative = np.asarray(weights, np.float64) * len(weights)
    if rule == "kl_ball":
        return special.xlogy(relative, relative).mean()
    return ((relative - 1) ** 2).mean() / 2


def limit(rule, count, tied=1):
    """The divergence of weights that are uniform over the largest losses."""
    return np.log(count / tied) if rule == "kl_ball" else (count / tied - 1) / 2


def draws(count=4, examples=EXAMPLES):
    """Losses and masks; every other draw has many ties."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        losses = rng.normal(size=examples) * 2
        where = rng.random(examples) < 0.8
        yield (np.round(losses) if seed % 2 else losses), where


# The weights are the worst: feasible, and as bad as the dual or a linear programme allows.


def dual(rule, losses, radius):
    if rule == "kl_ball":

        def bound(log_temperature):
            temperature = np.exp(log_temperature)
            log_mean = special.logsumexp(losses / temperature) - np.log(len(losses))
            return temperature * (radius + log_mean)

        bounds = (-25, 8)
    else:

        def bound(threshold):
            moment = (np.maximum(losses - threshold, 0) ** 2).mean()
            return threshold + np.sqrt((1 + 2 * radius) * moment)

        bounds = (losses.min() - 100, losses.max())
    found = optimize.minimize_scalar(
        bound, bounds=bounds, method="bounded", options={"xatol": 1e-9}
    )
    return found.fun


@every_ball
@pytest.mark.parametrize("radius", fast([0.3, 20.0], [0.01, 0.3, 1.2, 20.0]))
def test_weights_in_a_ball_are_feasible_and_reach_the_dual(float64, rule, radius):
    weigh, value, _ = RULES[rule]
    for losses, where in draws():
        weights = np.asarray(weigh(losses, radius, where))
        kept, weights = losses[where], weights[where]
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)
        largest = limit(rule, len(kept), (kept == kept.max()).sum())
        np.testing.assert_allclose(divergence(rule, weights), min(radius, largest), rtol=1e-9)
        worst = dual(rule, kept, radius)
        np.testing.assert_allclose(weights @ kept, worst, rtol=1e-7, atol=1e-7)
        found = value(losses, radius, where)
        np.testing.assert_allclose(found, weights @ kept, rtol=1e-13, atol=1e-13)


@every_ball
def test_weights_in_a_ball_are_those_that_a_solver_finds(float64, rule):
    weigh, _, radius = RULES[rule]
    losses = next(draws())[0][:6]
    found = optimize.minimize(
        lambda w: -w @ losses,
        np.full(6, 1 / 6),
        jac=lambda w: -losses,
        method="SLSQP",
        bounds=[(1e-12, 1)] * 6,
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1},
            {"type": "ineq", "fun": lambda w: radius - divergence(rule, w)},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(weigh(losses, radius), found.x, atol=1e-6)


@pytest.mark.parametrize("fraction", fast([0.01, 0.35], [0.01, 0.1, 0.25, 0.35, 0.8, 1.0]))
def test_cvar_is_the_optimum_of_its_linear_programme(float64, fraction):
    for losses, where in draws():
        weights = np.asarray(RULES["cvar"][0](losses, fraction, where))
        kept, weights = losses[where], weights[where]
        cap = 1 / (fraction * len(kept))
        assert (weights >= 0).all()
        assert (weights <= cap * (1 + 1e-14)).all()
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)
        ones = np.ones((1, len(kept)))
        programme = optimize.linprog(-kept, A_eq=ones, b_eq=[1], bounds=(0, cap))
        np.testing.assert_allclose(weights @ kept, -programme.fun, rtol=1e-12, atol=1e-12)
        found = RULES["cvar"][1](losses, fraction, where)
        np.testing.assert_allclose(found, -programme.fun, rtol=1e-12, atol=1e-12)


def test_the_kl_price_is_paid_and_no_other_weights_are_worse(float64, rng):
    weigh, value = jax.jit(kl_dro_weights), jax.jit(kl_dro_value)
    for losses, where in draws():
        for temperature in (0.05, 0.7, 30.0):
            given = {"temperature": temperature, "where": where}
            weights = np.asarray(weigh(losses, **given))
            found = value(losses, **given)
            kept = losses[where]

            def paid(w, kept=kept, temperature=temperature):
                return w @ kept - temperature * special.xlogy(w, w * len(kept)).sum(-1)

            assert (weights[~where] == 0).all()
            np.testing.assert_allclose(weights[where], special.softmax(kept / temperature))
            np.testing.assert_allclose(found, paid(weights[where]), rtol=1e-12)
            near = weights[where] * np.exp(0.1 * rng.normal(size=(100, len(kept))))
            assert (paid(near / near.sum(-1, keepdims=True)) <= found + 1e-13).all()


# Limits and ties.


@every_ball
def test_radius_zero_is_exactly_the_mean(rule):
    weigh, value, _ = RULES[rule]
    losses = np.float32(next(draws())[0])
    assert (weigh(losses, 0.0) == np.float32(1 / EXAMPLES)).all()
    np.testing.assert_allclose(value(losses, 0.0), losses.mean(), rtol=1e-5)


@every_ball
@pytest.mark.parametrize("tied", fast([2], [1, 2, 3]))
def test_from_the_largest_divergence_on_all_weight_is_on_the_largest_losses(rule, tied):
    weigh, _, _ = RULES[rule]
    losses = np.zeros(EXAMPLES, np.float32)
    losses[4 : 4 + tied], losses[0] = 2.0, 1.999
    expected = (losses == 2.0) / tied
    for radius in (limit(rule, EXAMPLES, tied) * (1 + 1e-6), 1e30, np.inf):
        np.testing.assert_allclose(weigh(losses, radius), expected, rtol=1e-6)
    assert weigh(losses, limit(rule, EXAMPLES, tied) * 0.97)[0] > 0


def test_the_limits_of_cvar_are_the_mean_and_the_largest_loss():
    losses = np.array([1, 5, 2, 5, -3, 0, 0, 4, 4, 4, -3, -3], np.float32)
    np.testing.assert_allclose(RULES["cvar"][0](losses, 1.0), 1 / EXAMPLES, rtol=1e-6)

    # A Python number each: a traced one of 1e-45 would be 0.
    @jax.jit
    def program(losses):
        return [
            (cvar_weights(losses, fraction=fraction), cvar_value(losses, fraction=fraction))
            for fraction in (1 / EXAMPLES, 0.01, 1e-45)
        ]

    for weights, value in program(losses):
        assert (weights == np.equal(losses, 5) / 2).all()
        assert value == 5


@pytest.mark.parametrize("share", fast([1, 7], [1, 4, 5, 7, 11]))
def test_a_whole_number_of_examples_shares_equally_though_the_fraction_is_rounded(share):
    weights = RULES["cvar"][0](np.arange(EXAMPLES, dtype=np.float32), share / EXAMPLES)
    expected = np.arange(EXAMPLES) >= EXAMPLES - share
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-6, atol=1e-7)


def test_the_limits_of_the_temperature_are_the_largest_loss_and_the_mean():
    losses = np.array([7.0, *[1.0, 2.0, 3.0, 4.0, -1.0] * 2, 2.0], np.float32)
    limits = {1e-45: 7.0, 1e-30: 7.0, 1e30: 2.25}

    # A Python number each: a traced one of 1e-45 would be 0.
    @jax.jit
    def program(losses):
        value_and_slope = jax.value_and_grad(kl_dro_value)
        return [value_and_slope(losses, temperature=temperature) for temperature in limits]

    for (value, slope), expected in zip(program(losses), limits.values(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        weights = np.arange(EXAMPLES) == 0 if expected == 7 else 1 / EXAMPLES
        np.testing.assert_allclose(slope, weights, rtol=1e-6)


@every_rule
def test_ties_weigh_the_same_and_the_order_does_not_matter(rule, rng):
    weigh, _, number = RULES[rule]
    # Groups move along when whole triples are permuted.
    order = np.arange(EXAMPLES).reshape(4, 3)[rng.permutation(4)].ravel()
    for losses, where in draws():
        losses = np.float32(losses)
        weights = np.asarray(weigh(losses, number, where))
        moved = weigh(losses[order], number, where[order])
        np.testing.assert_allclose(moved, weights[order], rtol=1e-5, atol=1e-8)
        group = GROUPS if rule == "group_dro" else np.zeros(EXAMPLES)
        for i, j in zip(*np.nonzero(losses[:, None] == losses), strict=True):
            if where[i] and where[j] and group[i] == group[j]:
                assert weights[i] == weights[j]


def test_cvar_shares_what_is_left_at_the_boundary_equally():
    losses = np.array([2, 9, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0], np.float32)
    # Three of twelve examples: the largest, and two shared by the three that tie.
    expected = np.array([2 / 3, 1, 2 / 3, 0, 2 / 3, 0, 0, 0, 0, 0, 0, 0]) / 3
    np.testing.assert_allclose(RULES["cvar"][0](losses, 0.25), expected, rtol=1e-6)


def test_chi2_weights_are_linear_above_one_threshold_and_zero_below(float64):
    left_out = []
    for losses, _ in draws(8):
        weights = np.asarray(RULES["chi2_ball"][0](losses, 0.6))
        kept = weights > 0
        slope, intercept = np.polyfit(losses[kept], weights[kept], 1)
        np.testing.assert_allclose(
            weights, np.maximum(slope * losses + intercept, 0), rtol=1e-10, atol=1e-12
        )
        assert slope > 0
        left_out.append((~kept).any())
    assert any(left_out)


def test_a_small_chi2_radius_adds_standard_deviations(float64):
    losses = next(draws())[0]
    radius = 1e-3
    expected = losses.mean() + np.sqrt(2 * radius) * losses.std()
    np.testing.assert_allclose(RULES["chi2_ball"][1](losses, radius), expected, rtol=1e-13)


@pytest.mark.parametrize("rule", [*BALLS, "cvar"])
def test_weights_do_not_change_with_shift_and_scale(float64, rule):
    weigh, value, number = RULES[rule]
    for losses, where in draws():
        moved = 40 * losses - 7
        np.testing.assert_allclose(
            weigh(moved, number, where), weigh(losses, number, where), rtol=1e-9, atol=1e-14
        )
        expected = 40 * value(losses, number, where) - 7
        np.testing.assert_allclose(value(moved, number, where), expected, rtol=1e-9)


def test_a_temperature_scales_with_the_losses(float64):
    losses = next(draws())[0]
    weights, value = RULES["kl_dro"][:2]
    np.testing.assert_allclose(weights(40 * losses - 7, 28.0), weights(losses, 0.7), rtol=1e-12)
    np.testing.assert_allclose(value(40 * losses - 7, 28.0), 40 * value(losses, 0.7) - 7)


# Numbers.


@every_ball
def test_losses_on_many_scales_keep_the_constraint(rule):
    weigh, _, _ = RULES[rule]
    losses = np.append(0, -(10.0 ** np.arange(-33, 0, 3))).astype(np.float32)
    for radius in (0.01, 0.5, 1.5):
        weights = np.asarray(weigh(losses, radius))
        np.testing.assert_allclose(divergence(rule, weights), radius, rtol=1e-4)
        assert (np.diff(weights) <= 0).all()


@every_ball
@pytest.mark.parametrize("radius", fast([1e-10, 0.5], [1e-10, 1e-8, 1e-6, 1e-3, 0.5]))
def test_float32_finds_the_weights_of_float64(rule, radius):
    weigh = jax.jit(RULES[rule][0])
    losses = np.float32(next(draws(1, 1000))[0])
    single = 1000 * np.float64(weigh(losses, radius))
    with jax.enable_x64(True):
        double = 1000 * np.asarray(weigh(jnp.asarray(losses, jnp.float64), radius))
    np.testing.assert_allclose(single, double, rtol=3e-5 * np.sqrt(radius), atol=5e-7)


@pytest.mark.slow
@every_ball
def test_a_large_batch_keeps_the_constraint_in_float32(rule):
    weigh = jax.jit(RULES[rule][0], compiler_options=AS_USERS_DO)
    outlier = np.arange(100_000) == 3
    for losses in (next(draws(1, 100_000))[0], outlier):
        for part in (1e-3, 0.5, 0.9, 0.99):
            radius = part * limit(rule, 100_000)
            weights = weigh(jnp.asarray(losses, jnp.float32), radius)
            np.testing.assert_allclose(divergence(rule, weights), radius, rtol=1e-5)
            np.testing.assert_allclose(np.asarray(weights, np.float64).sum(), 1, rtol=1e-6)


# Group DRO.

# Compiled as a whole: other shapes than above, of which every operation would be compiled.
weigh_groups = jax.jit(functools.partial(group_dro_weights, step_size=0.1))
value_of_groups = jax.jit(functools.partial(group_dro_value, step_size=0.1))


def test_groups_are_learnt_as_by_a_plain_loop(float64, rng):
    q, rows = Q.copy(), np.log(Q)
    learn = jax.jit(functools.partial(group_dro_weights, step_size=0.3))
    value_and_rows = jax.jit(functools.partial(group_dro_value, step_size=0.3))
    for visit in range(5):
        losses, groups = rng.gamma(1.0, size=10), rng.integers(3, size=10)
        groups[groups == visit] = (visit + 1) % 3  # Early batches lack a group.
        where = rng.random(10) < 0.9
        means, expected = np.zeros(3), np.zeros(10)
        for g in range(3):
            members = where & (groups == g)
            means[g] = losses[members].mean() if members.any() else 0
            q[g] *= np.exp(0.3 * means[g])
        q /= q.sum()
        for i in np.flatnonzero(where):
            expected[i] = q[groups[i]] / (where & (groups == groups[i])).sum()
        value, same = value_and_rows(losses, groups, rows, where=where)
        weights, rows = learn(losses, groups, rows, where=where)
        np.testing.assert_allclose(weights, expected, rtol=1e-12)
        np.testing.assert_allclose(np.exp(rows), q, rtol=1e-12)
        np.testing.assert_array_equal(rows, same)
        np.testing.assert_allclose(value, q @ means, rtol=1e-12)


def test_without_a_step_the_groups_count_equally_and_in_the_end_only_the_worst_does():
    losses, groups = np.float32([1, 2, 3, 7, 4, 0]), np.array([0, 0, 0, 1, 1, 2])
    value_of_groups = jax.jit(group_dro_value)
    value, rows = value_of_groups(losses, groups, np.zeros(3, np.float32), step_size=0.0)
    np.testing.assert_allclose(value, (2 + 5.5 + 0) / 3, rtol=1e-6)
    for _ in range(50):
        value, rows = value_of_groups(losses, groups, rows, step_size=1.0)
    np.testing.assert_allclose(value, 5.5, rtol=1e-6)
    np.testing.assert_allclose(np.exp(rows), [0, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    "dtype", [np.uint8, *(pytest.param(d, marks=pytest.mark.slow) for d in (np.int8, np.int32))]
)
def test_a_group_that_does_not_exist_gives_nan_and_counts_for_none(dtype):
    losses, zeros = np.float32([1, 2, 3, 4]), np.zeros(5, np.float32)
    outside = np.array([0, 5, 255 if dtype == np.uint8 else -1, 1], dtype)
    kept = np.array([True, False, False, True])
    weights, rows = map(np.asarray, weigh_groups(losses, outside, zeros))
    assert np.isnan(weights).tolist() == (~kept).tolist()
    expected = [np.asarray(part) for part in weigh_groups(losses, outside, zeros, where=kept)]
    np.testing.assert_array_equal(weights[kept], expected[0][kept])
    np.testing.assert_array_equal(rows, expected[1])
    assert (expected[0][~kept] == 0).all()
    assert np.isnan(value_of_groups(losses, outside, zeros)[0])


def test_small_integers_are_compared_with_more_groups_than_they_can_count():
    groups = np.array([127, -1], np.int8)
    weights, _ = weigh_groups(np.zeros(2, np.float32), groups, np.zeros(300, np.float32))
    assert np.isnan(weights).tolist() == [False, True]


def test_wide_integers_do_not_become_groups():
    weights, _ = group_dro_weights(jnp.zeros(2), np.array([2**32, 0]), jnp.zeros(2), step_size=0.1)
    assert np.isnan(weights).tolist() == [True, False]


def test_a_broken_loss_breaks_the_rows_unless_it_is_masked():
    losses, groups, zeros = np.float32([1, np.nan, 2]), np.array([0, 0, 1]), np.zeros(2, np.float32)
    assert np.isnan(weigh_groups(losses, groups, zeros)[1]).all()
    where = np.array([True, False, True])
    rows = weigh_groups(losses, groups, zeros, where=where)[1]
    np.testing.assert_allclose(rows, special.log_softmax(np.float32([0.1, 0.2])), rtol=1e-6)


def test_rows_keep_their_dtype_and_no_gradient_flows_to_or_through_them():
    losses, groups, zeros = np.float32([1, 3, 2]), np.array([0, 0, 1]), np.zeros(2, np.float32)

    def function(losses, rows):
        return group_dro_value(losses, groups, rows, step_size=0.5)

    @jax.jit
    def program(losses, rows):
        value_by_rows = jax.grad(lambda rows: function(losses, rows)[0])(rows)
        return *jax.jacrev(function, argnums=(0, 1))(losses, rows)[1], value_by_rows

    for slope in program(losses, zeros):
        assert (slope == 0).all()
    value, rows = jax.jit(function)(losses, zeros.astype(jnp.bfloat16))
    assert (value.dtype, rows.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize(
    ("groups", "rows", "message"),
    [
        (np.zeros(3, np.float32), np.zeros(2, np.float32), r"groups .*\(3,\).* got float32"),
        (np.zeros(2, np.int32), np.zeros(2, np.float32), r"groups .*got int32 of shape \(2,\)"),
        (np.zeros(3, np.int32), np.zeros(2, np.int32), r"rows must be floating .* got int32"),
        (np.zeros(3, np.int32), np.zeros((1, 2), np.float32), r"rows .* of shape \(1, 2\)"),
    ],
)
def test_groups_and_rows_that_do_not_fit_raise(groups, rows, message):
    for function in (group_dro_weights, group_dro_value):
        with pytest.raises(ValueError, match=message):
            function(jnp.zeros(3), groups, rows, step_size=0.1)


# In a train step.

AXIS = train.sharding.DATA_AXIS


def squared_errors(params, batch):
    return (batch["x"] @ params - batch["y"]) ** 2


def batches(rng):
    """Two of 16; the second ends in padding, and leaves devices without an example."""
    return [
        {
            "x": rng.normal(size=(16, 2)).astype(np.float32),
            "y": rng.normal(size=16).astype(np.float32),
            "group": rng.integers(3, size=16, dtype=np.int32),
            "mask": mask,
        }
        for mask in (np.ones(16, bool), np.arange(16) < 11)
    ]


def rule_of(rule, kind, losses, batch, rows):
    """The rule's weights (0) or value (1), and the new rows, for a batch with groups."""
    if rule == "group_dro":
        function = (group_dro_weights, group_dro_value)[kind]
        return function(losses, batch["group"], rows, step_size=0.4, where=batch["mask"])
    return RULES[rule][kind](losses, RULES[rule][2], batch["mask"]), rows


def robust_step(axis_name=None, gathered=True):
    """As the docstrings say, with parameters of its own for every rule, so that one step has all.

    Not gathered, each device weighs its own examples.
    """

    def weighted(rule, params, rows, batch):
        losses = squared_errors(params, batch)
        seen = {"losses": losses, "group": batch["group"], "mask": batch["mask"]}
        if axis_name is not None and gathered:
            seen = jax.lax.all_gather(seen, axis_name, tiled=True)
        weights, rows = rule_of(rule, 0, seen["losses"], seen, rows)
        if axis_name is not None and gathered:
            start = jax.lax.axis_index(axis_name) * len(losses)
            weights = jax.lax.dynamic_slice_in_dim(weights, start, len(losses))
        count = seen["mask"].sum().astype(jnp.float32)
        return losses * jax.lax.stop_gradient(count * weights), rows

    def loss_fn(params, extra, rows, batch, key):
        of_rules = {rule: weighted(rule, params[rule], extra, batch) for rule in params}
        total = sum(losses for losses, _ in of_rules.values())
        return total, (of_rules["group_dro"][1], rows, {})

    return train.make_train_step(loss_fn, optax.sgd(0.1), axis_name=axis_name)


def on_a_mesh():
    step, mesh = jax.jit(robust_step()), train.data_mesh(8)
    return lambda state, batch: step(train.replicate(state, mesh), train.shard_batch(batch, mesh))


def on_shards(gathered=True):
    mesh, step = train.data_mesh(8), robust_step(AXIS, gathered)
    specs = {"in_specs": (P(), P(AXIS)), "out_specs": P()}
    return jax.jit(jax.shard_map(step, mesh=mesh, **specs))


WAYS = {
    "one device": lambda: jax.jit(robust_step()),
    "mesh": on_a_mesh,
    "shard_map": on_shards,
}


def after_two_steps(step, visits, rules=RULES):
    """The parameters of the rules, and the rows of the groups."""
    params = {rule: jnp.zeros(2) for rule in rules}
    state = train.init_state(params, optax.sgd(0.1), key=jax.random.key(0), extra=jnp.zeros(3))
    for batch in visits:
        state, _ = step(state, batch)
    return jax.device_get((state.params, state.extra))


@pytest.fixture(scope="module")
def descended():
    """Two batches, and where plain gradients of the robust values lead on one device."""
    visits = batches(np.random.default_rng(0))

    def values(params, rows, batch):
        of_rules = {
            rule: rule_of(rule, 1, squared_errors(params[rule], batch), batch, rows)
            for rule in RULES
        }
        return sum(value for value, _ in of_rules.values()), of_rules["group_dro"][1]

    gradient = jax.jit(jax.grad(values, has_aux=True))
    params, rows = {rule: jnp.zeros(2) for rule in RULES}, jnp.zeros(3)
    for batch in visits:
        slopes, rows = gradient(params, rows, batch)
        params = jax.tree.map(lambda param, slope: param - 0.1 * slope, params, slopes)
    return visits, params, rows


@pytest.mark.parametrize(
    "way", ["one device", pytest.param("mesh", marks=pytest.mark.slow), "shard_map"]
)
def test_a_step_descends_the_robust_value_however_the_batch_is_split(way, descended):
    visits, expected, expected_rows = descended
    params, rows = after_two_steps(WAYS[way](), visits)
    for rule in RULES:
        np.testing.assert_allclose(params[rule], expected[rule], rtol=2e-5, err_msg=rule)
    np.testing.assert_allclose(rows, expected_rows, rtol=1e-5)


@pytest.mark.slow
def test_weights_of_a_devices_own_examples_have_another_objective(descended):
    visits, expected, _ = descended
    rules = ("kl_ball", "cvar", "group_dro")
    local, _ = after_two_steps(on_shards(gathered=False), visits, rules)
    for rule in rules:
        difference = np.abs(local[rule] - expected[rule]).max()
        assert difference > 0.01 * np.abs(expected[rule]).max(), rule
