"""ALDR-KL: the temperature is the best there is, the loss is continuous in it, and the step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lnl_jax.losses import _temperature_search, aldr_kl, aldr_kl_step, aldr_temperature, ldr_kl

INITIAL = 0.7
# One of 10 classes stays at 0 and the others fall: two maxima tie at a gap of about 1.6.
TIE = {"temperature": 1.0, "alpha": 1.1}


def objective_and_map(delta, temperature, initial, alpha):
    """phi and T of all temperatures [..., G] of each row of margin violations [..., K]."""
    alpha, log_count = np.expand_dims(alpha, -1), np.log(delta.shape[-1])
    scaled = delta[..., None, :] / temperature[..., None]
    tempered = special.logsumexp(scaled, axis=-1) - log_count
    divergence = (special.softmax(scaled, axis=-1) * scaled).sum(-1) - tempered
    penalty = alpha * log_count / (2 * initial) * (temperature - initial) ** 2
    mapped = initial * (1 - divergence / (alpha * log_count))
    return temperature * tempered - penalty, mapped


def best_by_exhaustion(delta, initial, alpha):
    """The best temperature, its phi, and how many local maxima phi has, per row.

    The best of a fine grid, then plain iteration: T increases and phi' has the sign of
    T(lambda) - lambda, so it climbs to the maximum next to it.
    """
    lowest = initial * (1 - 1 / np.broadcast_to(alpha, len(delta)))
    grid = np.linspace(lowest, initial, 301, axis=-1)
    phi, mapped = objective_and_map(delta, grid, initial, alpha)
    climbs = mapped > grid
    maxima = (climbs[:, :-1] & ~climbs[:, 1:]).sum(-1)
    best = np.take_along_axis(grid, phi.argmax(-1)[:, None], -1)
    for _ in range(1000):
        before = best
        phi, best = objective_and_map(delta, best, initial, alpha)
        if np.abs(best - before).max() < 1e-13 * initial:
            return best[:, 0], phi[:, 0], maxima
    raise AssertionError("The plain iteration did not converge.")


def normal_scores(rng, num_classes):
    """Logits, labels and alphas, over many scales."""
    settings = np.array([(s, a) for s in (0.1, 1, 5, 20) for a in (1.05, 1.1, 2, 5)]).repeat(8, 0)
    logits = settings[:, :1] * rng.normal(size=(len(settings), num_classes))
    return logits, rng.integers(num_classes, size=len(settings)), settings[:, 1]


def two_group_scores(rng, num_classes):
    """m classes at 0 and the others below: several fixed points are common."""
    rows = [
        (m, gap, a)
        for m in range(1, num_classes)
        for gap in (*np.linspace(0, 2.9, 30), *np.linspace(3, 20, 18))
        for a in (1.02, 1.05, 1.1, 1.2)
    ]
    m, gap, alpha = np.array(rows).T
    logits = np.where(np.arange(num_classes) < m[:, None], 0, -INITIAL * gap[:, None])
    return logits, rng.integers(num_classes, size=len(rows)), alpha


def margin_violations(logits, labels):
    return logits - np.take_along_axis(logits, labels[:, None], -1)


@functools.partial(jax.jit, static_argnums=0)
def compiled(function, *arguments, **settings):
    return function(*arguments, **settings)


ROWS = 2048


@jax.jit
def temperature_loss_and_gradient(logits, labels, temperature, alpha, margin):
    settings = {"temperature": temperature, "alpha": alpha, "margin": margin}
    losses, pullback = jax.vjp(lambda logits: aldr_kl(logits, labels, **settings), logits)
    adapted = aldr_temperature(logits, labels, **settings)
    return adapted, losses, *pullback(jnp.ones_like(losses))


def solve(logits, labels, *, temperature=INITIAL, alpha=2.0, margin=0.0):
    """The temperatures, the losses and their gradient; for 10 classes compiled once a dtype."""
    rows = ROWS if logits.shape[-1] == 10 else len(logits)

    def padded(values):
        values = np.asarray(values)
        return np.pad(values, [(0, rows - len(values))] + [(0, 0)] * (values.ndim - 1), "edge")

    numbers = (np.zeros(len(logits), logits.dtype) + n for n in (temperature, alpha, margin))
    labels = np.asarray(labels, np.int32)
    found = temperature_loss_and_gradient(*map(padded, (logits, labels, *numbers)))
    return [np.asarray(values)[: len(logits)] for values in found]


@functools.partial(jax.jit, static_argnums=0)
def gradient(function, logits, *arguments, **settings):
    """Of the sum of the losses with respect to the logits."""

    def total(logits):
        losses = function(logits, *arguments, **settings)
        return (losses[0] if isinstance(losses, tuple) else losses).sum()

    return jax.grad(total)(logits)


SAMPLES = {
    "3_normal": (normal_scores, 3),
    "10_normal": (normal_scores, 10),
    "100_normal": (normal_scores, 100),
    "10_in_two_groups": (two_group_scores, 10),
}
SLOW = ("3_normal", "10_normal", "100_normal")


@pytest.mark.parametrize(
    ("draw", "num_classes"),
    [
        pytest.param(*sample, id=name, marks=pytest.mark.slow if name in SLOW else ())
        for name, sample in SAMPLES.items()
    ],
)
def test_temperature_and_loss_are_the_best_there_are(float64, rng, draw, num_classes):
    logits, labels, alpha = draw(rng, num_classes)
    delta = margin_violations(logits, labels)
    expected, phi, maxima = best_by_exhaustion(delta, INITIAL, alpha)
    found, losses, _ = solve(logits, labels, alpha=alpha)
    assert (found >= INITIAL * (1 - 1 / alpha)).all()
    assert (found <= INITIAL).all()
    _, mapped = objective_and_map(delta, found[:, None], INITIAL, alpha)
    np.testing.assert_allclose(found, mapped[:, 0], rtol=0, atol=1e-6 * INITIAL)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * INITIAL)
    np.testing.assert_allclose(losses, phi, rtol=1e-12, atol=1e-12)
    # The sample is one in which either of several can be the best.
    middle = INITIAL * (1 - 0.5 / alpha)
    assert (expected[maxima > 1] < middle[maxima > 1]).any()
    assert (expected[maxima > 1] > middle[maxima > 1]).any()


@pytest.mark.parametrize(
    "sample", [pytest.param("100_normal", marks=pytest.mark.slow), "10_in_two_groups"]
)
def test_float32_finds_the_temperature_of_float64(rng, sample):
    draw, num_classes = SAMPLES[sample]
    logits, labels, alpha = draw(rng, num_classes)
    logits = logits.astype(np.float32)
    with jax.enable_x64(True):
        expected, *_ = solve(logits.astype(np.float64), labels, alpha=alpha)
    found, *_ = solve(logits, labels, alpha=alpha)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * INITIAL)


@pytest.fixture
def path():
    """Logits along a path through the tie, labels, and the step in the gap between two of them."""
    gaps = np.linspace(1.4, 1.9, 2001)
    logits = np.where(np.arange(10) == 0, 0, -gaps[:, None])
    return logits, np.zeros(len(gaps), np.int32), gaps[1] - gaps[0]


def test_loss_is_continuous_and_convex_across_a_tie_where_the_temperature_jumps(float64, path):
    logits, labels, gap = path
    temperatures, losses, _ = solve(logits, labels, **TIE)
    assert (np.diff(temperatures) < -0.7).sum() == 1
    steps = np.diff(losses)
    # The slope is minus the probability of the other classes.
    assert (steps < 0).all()
    assert (steps > -gap).all()
    assert (np.diff(steps) > -1e-13).all()


def test_gradient_on_both_sides_of_a_tie_is_that_of_the_better_maximum(float64, path):
    logits, labels, _ = path
    temperatures, _, found = solve(logits, labels, **TIE)
    p = special.softmax(logits / temperatures[:, None], axis=-1)
    np.testing.assert_allclose(found, p - np.eye(10)[labels], atol=1e-14)


@pytest.mark.parametrize(
    "alpha", [1.5, 1e6, *(pytest.param(a, marks=pytest.mark.slow) for a in (10.0, 1e3))]
)
def test_a_large_alpha_gives_ldr_kl(float64, rng, alpha):
    logits = 3 * rng.normal(size=(50, 10))
    labels = rng.integers(10, size=50)
    settings = {"temperature": INITIAL, "margin": 0.3}
    excess = solve(logits, labels, alpha=alpha, **settings)[1]
    excess -= compiled(ldr_kl, logits, labels, **settings)
    # The KL, which is what a lower temperature gains, is at most log K.
    assert (excess > 0).all()
    assert (excess < INITIAL * np.log(10) / (2 * alpha)).all()


@pytest.mark.parametrize(
    "alpha", [1.05, *(pytest.param(a, marks=pytest.mark.slow) for a in (1.2, 2.0))]
)
def test_the_more_confident_the_lower_the_temperature(float64, rng, alpha):
    confidence = np.linspace(0, 30, 200)
    logits = confidence[:, None] * rng.normal(size=10)
    labels = np.zeros(200, np.int32)
    found, *_ = solve(logits, labels, temperature=1.0, alpha=alpha)
    assert (np.diff(found) < 1e-6).all()
    np.testing.assert_allclose(found[0], 1)
    np.testing.assert_allclose(found[-1], 1 - 1 / alpha, atol=1e-3)


def test_equal_logits_keep_the_initial_temperature():
    logits = jnp.full((3, 1000), 2.0)
    labels = jnp.zeros(3, jnp.int32)
    found = temperature_loss_and_gradient(logits, labels, INITIAL, 2.0, 0.0)
    np.testing.assert_array_equal(found[0], np.float32(INITIAL))
    np.testing.assert_array_equal(found[1], 0)


def test_one_class_has_no_loss_and_no_gradient():
    logits, labels = jnp.asarray([[3.0]]), jnp.asarray([0])
    settings = {"temperature": INITIAL, "margin": 0.5}
    assert compiled(aldr_kl, logits, labels, **settings) == 0
    assert gradient(aldr_kl, logits, labels, **settings) == 0
    losses, rows = compiled(aldr_kl_step, logits, labels, jnp.asarray([0.2]), **settings)
    assert losses == 0
    assert rows == jnp.float32(INITIAL)


@pytest.fixture
def example(rng):
    """Logits, labels as distributions, temperatures, alphas, margins in NumPy."""
    logits = 2 * rng.normal(size=(12, 5))
    labels = rng.dirichlet(np.ones(5), size=12)
    return logits, labels, *rng.uniform([[0.5], [1.1], [0.1]], [[2], [3], [1]], size=(3, 12))


@jax.jit
def temperature_and_loss_with_slopes(*arguments):
    """Both at distributions, and the gradients of their sums in every argument."""

    def of(function):
        def values(logits, labels, temperature, alpha, margin):
            return function(logits, labels, temperature=temperature, alpha=alpha, margin=margin)

        found, pullback = jax.vjp(values, *arguments)
        return found, pullback(jnp.ones_like(found))

    return of(aldr_temperature), of(aldr_kl)


def test_the_temperature_moves_as_its_fixed_point_does(float64, example):
    """In the scores, the labels and every hyperparameter; the last row's violations are equal."""
    logits, labels, temperature, alpha, margin = example
    logits[-1], labels[-1] = 0, 0.2
    example = tuple(map(jnp.asarray, (logits, labels, temperature, alpha, margin)))

    def adapted(*arguments):
        return temperature_and_loss_with_slopes(*arguments)[0]

    _, gradients = adapted(*example)
    rng = np.random.default_rng(1)
    for moved, found in enumerate(gradients):
        direction = rng.normal(size=found.shape)
        above, below = (
            adapted(*example[:moved], example[moved] + step, *example[moved + 1 :])[0]
            for step in (1e-4 * direction, -1e-4 * direction)
        )
        slopes = (found * direction).reshape(len(found), -1).sum(-1)
        np.testing.assert_allclose(slopes, (above - below) / 2e-4, rtol=1e-5, atol=1e-6)


def test_gradient_is_that_of_phi_at_the_maximiser_which_is_held(float64, example):
    (held, _), (_, found) = temperature_and_loss_with_slopes(*example)

    def phi(logits, labels, temperature, alpha, margin):
        delta = logits - (labels * logits).sum(-1, keepdims=True) + margin[:, None] * (1 - labels)
        tempered = held * (jax.nn.logsumexp(delta / held[:, None], axis=-1) - np.log(5))
        penalty = alpha * np.log(5) / (2 * temperature) * (held - temperature) ** 2
        return (tempered - penalty).sum()

    expected = jax.jit(jax.grad(phi, argnums=range(5)))(*example)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        if number == 1:
            # Distributions stay on the simplex: a constant along the classes moves none.
            one, other = (x - x.mean(-1, keepdims=True) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_a_grid_of_temperatures_and_alphas_is_a_double_vmap(float64, rng):
    logits, labels = 3 * rng.normal(size=(4, 10)), np.arange(4)

    def loss(temperature, alpha):
        return aldr_kl(logits, labels, temperature=temperature, alpha=alpha)

    temperatures, alphas = np.array([0.1, 1, 10]), np.array([1.1, 2, 50])
    grid = jax.jit(jax.vmap(jax.vmap(loss, (None, 0)), (0, None)))(temperatures, alphas)
    loss = jax.jit(loss)
    one_by_one = [[loss(t, a) for a in alphas] for t in temperatures]
    np.testing.assert_allclose(grid, one_by_one, rtol=1e-12)


@pytest.mark.slow
def test_descent_in_a_compiled_scan_equals_a_loop(float64, rng):
    logits, labels = jnp.asarray(rng.normal(size=(4, 10))), np.arange(4)

    def descend(x, _=None):
        return x - 0.5 * gradient(aldr_kl, x, labels, alpha=1.2, margin=0.5), None

    @jax.jit
    def scanned(logits):
        return jax.lax.scan(descend, logits, length=5)[0]

    by_loop = logits
    for _ in range(5):
        by_loop, _ = descend(by_loop)
    np.testing.assert_allclose(scanned(logits), by_loop, rtol=1e-12)


BAD_ROWS = {
    "a_column": np.ones((6, 1), np.float32),
    "the_whole_table": np.ones(12, np.float32),
    "a_number": 1.0,
    "integers": np.ones(6, np.int32),
}


@pytest.mark.parametrize("rows", BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_are_not_one_temperature_per_example_raise(rows):
    with pytest.raises(ValueError, match=r"rows must be .* shape \(6,\); got .* by index"):
        aldr_kl_step(jnp.zeros((6, 5)), jnp.zeros(6, jnp.int32), rows)


def test_a_row_that_is_no_temperature_is_refused_or_gives_nan():
    logits, labels = jnp.zeros((5, 3)), jnp.zeros(5, jnp.int32)
    rows = np.float32([1, 0, -1, np.inf, np.nan])
    losses, new_rows = compiled(aldr_kl_step, logits, labels, rows)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True, True, True])
    np.testing.assert_array_equal(np.isnan(new_rows), np.isnan(losses))
    with pytest.raises(ValueError, match="rows must be above 0 and finite, got"):
        aldr_kl_step(logits, labels, rows)


@pytest.mark.parametrize("name", ["temperature", "alpha", "margin"])
def test_an_infinite_number_is_refused_or_gives_nan(name):
    logits, labels = np.zeros((1, 10), np.float32), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match=f"{name} must be .* and finite, got inf"):
        aldr_kl(jnp.asarray(logits), labels, **{name: float("inf")})
    assert np.isnan(solve(logits, labels, **{name: np.inf})[1])


def scores_on_several_scales(rng, num_classes, examples):
    """Three to six groups of classes of any size, each far below the one before."""
    rows = []
    for _ in range(examples):
        groups = rng.integers(3, 7)
        sizes = np.exp(rng.uniform(0, np.log(num_classes), groups)).astype(int)
        levels = -np.cumsum(np.exp(rng.uniform(-2, 3, groups)))
        rows.append(np.resize(np.repeat(levels, sizes), num_classes))
        rows[-1][sizes.sum() :] = levels[-1]
    return np.stack(rows)


@pytest.mark.parametrize("num_classes", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_in_float32_no_temperature_gives_a_larger_objective(rng, num_classes):
    """On a dense grid in float64, where one, two and more maxima compete."""
    logits = np.float32(scores_on_several_scales(rng, num_classes, 120))
    alpha, labels = np.float32(np.tile([1.1, 1.5, 2, 5], 30)), np.argmax(logits, -1)
    found, *_ = solve(logits, labels, temperature=1.0, alpha=alpha)
    delta, alpha = margin_violations(np.float64(logits), labels), np.float64(alpha)
    grid = np.geomspace(1 - 1 / alpha, 1, 400, axis=-1)
    largest = objective_and_map(delta, grid, 1.0, alpha)[0].max(-1)
    reached = objective_and_map(delta, np.float64(found)[:, None], 1.0, alpha)[0][:, 0]
    assert (reached >= largest - 1e-5).all()


def test_reverse_over_reverse_is_forward_over_reverse(float64, example):
    logits, labels, temperature, alpha, margin = (value[0] for value in map(jnp.asarray, example))

    def loss(logits, temperature, alpha, margin):
        return aldr_kl(logits, labels, temperature=temperature, alpha=alpha, margin=margin)

    def both(*arguments):
        every = tuple(range(4))
        gradient = jax.grad(loss, every)
        return jax.jacrev(gradient, every)(*arguments), jax.jacfwd(gradient, every)(*arguments)

    reverse, forward = jax.jit(both)(logits, temperature, alpha, margin)
    for one, other in zip(jax.tree.leaves(reverse), jax.tree.leaves(forward), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_examples_without_a_usable_label_keep_their_row(rng):
    logits = jnp.float32(rng.normal(size=(5, 4)))
    labels = jnp.asarray([0, -1, 4, 3, 0])
    # The label of row 3 is masked, and all of row 4.
    where = np.arange(4) < np.array([4, 4, 4, 3, 0])[:, None]
    rows = jnp.asarray([0.9, 0.8, 0.7, 0.6, 0.5])
    losses, new_rows = compiled(aldr_kl_step, logits, labels, rows, where=where)
    np.testing.assert_array_equal(jnp.isnan(losses), [False, True, True, True, False])
    assert losses[4] == 0
    np.testing.assert_array_equal(new_rows == rows, [False, True, True, True, True])
    # A distribution that is masked with its classes has no mass left and is no invalid label.
    nothing = jnp.zeros((5, 4))
    _, new_rows = compiled(aldr_kl_step, logits, nothing, rows, where=nothing > 0)
    np.testing.assert_array_equal(new_rows, rows)


def test_rows_keep_their_dtype_and_losses_that_of_the_logits(rng):
    logits = jnp.bfloat16(rng.normal(size=(3, 4)))
    losses, rows = compiled(aldr_kl_step, logits, jnp.zeros(3, jnp.int32), jnp.ones(3))
    assert (losses.dtype, rows.dtype) == (jnp.bfloat16, jnp.float32)


def test_no_gradient_flows_through_the_rows(example):
    logits, labels, rows = map(jnp.float32, example[:3])

    def step(logits, rows):
        return aldr_kl_step(logits, labels, rows, margin=0.3)

    losses, new_rows = jax.jit(jax.jacobian(step, argnums=(0, 1)))(logits, rows)
    assert (losses[0] != 0).any()
    for blocked in (losses[1], *new_rows):
        np.testing.assert_array_equal(blocked, 0)


def test_second_derivatives_of_a_step_hold_the_new_row(float64, example):
    logits, labels, rows, alpha, _ = (value[0] for value in map(jnp.asarray, example))
    _, held = aldr_kl_step(logits, labels, rows, alpha=alpha)

    def step(logits):
        return aldr_kl_step(logits, labels, rows, alpha=alpha)[0]

    def at_the_row(logits):
        return ldr_kl(logits, labels, temperature=held)

    found, expected = jax.jit(lambda x: (jax.hessian(step)(x), jax.hessian(at_the_row)(x)))(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_gradient_of_a_step_holds_the_new_row(float64, example):
    logits, labels, rows, *_ = example
    _, held = compiled(aldr_kl_step, logits, labels, rows, margin=0.3)
    found = gradient(aldr_kl_step, logits, labels, rows, margin=0.3)
    expected = gradient(ldr_kl, logits, labels, temperature=held, margin=0.3)
    np.testing.assert_allclose(found, expected, atol=1e-14)


# Ten classes share the compiled program of the other tests; the claim is the same for three.
@pytest.mark.parametrize(
    "num_classes", [10, *(pytest.param(k, marks=pytest.mark.slow) for k in (3, 100))]
)
def test_repeated_visits_approach_the_exact_temperature(float64, rng, num_classes):
    logits = np.geomspace(0.1, 10, 60)[:, None] * rng.normal(size=(60, num_classes))
    labels = rng.integers(num_classes, size=60)

    @jax.jit
    def visits(rows):
        return jax.lax.scan(
            lambda rows, _: (aldr_kl_step(logits, labels, rows)[1], None), rows, length=100
        )[0]

    rows = visits(jnp.ones(60))
    # The 1e-5 mixes in uniform mass, which lowers the KL by at most this.
    mixed = num_classes * 1e-5 / (1 + num_classes * 1e-5)
    lost = mixed * np.log(num_classes) + special.entr([mixed, 1 - mixed]).sum()
    bound = lost / (2 * np.log(num_classes))
    _, mapped = objective_and_map(logits, np.asarray(rows)[:, None], 1.0, 2.0)
    assert (rows > mapped[:, 0]).all()
    assert (rows < mapped[:, 0] + bound).all()
    # The slope of T is below a half here, so that the distance is at most double.
    exact, *_ = solve(logits, labels, temperature=1.0)
    assert (rows > exact - 1e-6).all()
    assert (rows < exact + 2 * bound).all()


def test_few_classes_are_summed_as_many_are(rng):
    scores = jnp.asarray(-rng.exponential(size=(7, 5)), jnp.float32)
    beta = jnp.asarray(rng.uniform(0.5, 4, size=7), jnp.float32)
    many = jax.jit(_temperature_search._sums_of_many)(scores, beta)
    few = jax.jit(_temperature_search._sums_of_few)(scores.T, beta)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
