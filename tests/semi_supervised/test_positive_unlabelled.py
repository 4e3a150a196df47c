"""Positive-unlabelled losses: the risks they average to, golden values, messages."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from lnl_jax.semi_supervised import nn_pu, pu_mlc, pu_mlc_consistency, sigmoid_surrogate

EXAMPLES, CLASSES = 10, 3
TAU_ONE = 1e9  # An alpha so large that the temperature is 1.


def _sigmoid_loss(z):
    return special.expit(-z)


def _bracket(scores, positive, prior):
    return (
        _sigmoid_loss(-scores[~positive]).mean() - prior * _sigmoid_loss(-scores[positive]).mean()
    )


def _pu_risk(scores, positive, prior):
    bracket = _bracket(scores, positive, prior)
    return prior * _sigmoid_loss(scores[positive]).mean() + max(0.0, bracket)


def _pu_gradient(scores, positive, prior):
    """Of the risk; s'(z) = s'(-z) = -s(z) s(-z)."""
    slope = -special.expit(scores) * special.expit(-scores)
    of_positive = prior * slope / positive.sum()
    if _bracket(scores, positive, prior) < 0:
        return np.where(positive, of_positive, 0)
    return np.where(positive, 2 * of_positive, -slope / (~positive).sum())


def _temperature(scores, alpha):
    return np.maximum(np.minimum(1, alpha * scores.std(0)), 1e-6)


def _variational_risk(scores, positive, temperature, weight):
    log_phi = special.log_expit(scores / temperature)
    of_all = special.logsumexp(log_phi, axis=0) - np.log(len(scores))
    counts = np.maximum(positive.sum(0), 1)
    return (weight * of_all - (positive * log_phi).sum(0) / counts).sum()


def _mlc_parts(scores, alpha, gamma):
    temperature = _temperature(scores, alpha)
    return temperature, special.expit(scores / temperature).mean(0) ** gamma


def _finite_differences(function, at, step=1e-6):
    slopes = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        moved = np.zeros(at.shape)
        moved[place] = step
        slopes[place] = (function(at + moved) - function(at - moved)) / (2 * step)
    return slopes


def _grid(rows, columns, offset, scale):
    i, j = np.mgrid[:rows, :columns]
    return scale * np.sin(1.7 * i + 0.9 * j + offset)


@pytest.fixture
def binary(rng):
    """Scores whose bracket is far above 0 at a prior of 0.3, far below at 0.9; labels."""
    labels = np.array([1, 0, 1, 0, -1, 1, 7, 0, 1, 0], np.int32)
    scores = rng.normal(size=EXAMPLES)
    return scores + np.where(labels == 1, 1.5, -0.5), labels


@pytest.fixture
def multi(rng):
    """Scores and labels of three classes; the last has no positive."""
    labels = rng.integers(-1, 2, size=(EXAMPLES, CLASSES), dtype=np.int32)
    labels[:, 2] = np.minimum(labels[:, 2], 0)
    labels[:2, :2] = [[1, 0], [0, 1]]
    return 2 * rng.normal(size=(EXAMPLES, CLASSES)), labels


@pytest.fixture
def mixed(rng):
    """Three sets of scores, two of labels, one mix per example."""
    scores = 2 * rng.normal(size=(3, EXAMPLES, CLASSES))
    labels = rng.integers(-1, 2, size=(2, EXAMPLES, CLASSES), dtype=np.int32)
    return (*scores, *labels), rng.uniform(size=EXAMPLES)


def _call_binary(logits, **changes):
    labels = changes.pop("labels", jnp.array([1, 0, 1, 0, 0, 1, 0, 0, 1, 0]))
    return nn_pu(logits, labels, **{"prior": 0.3} | changes)


def _call_multi(logits, **changes):
    labels = changes.pop("labels", jnp.tile(jnp.array([[1, 0, -1], [0, 1, 0]]), (5, 1)))
    return pu_mlc(logits, labels, **{"alpha": 1.0, "gamma": 0.5} | changes)


def _call_mixed(logits, **changes):
    labels = jnp.tile(jnp.array([[1, 0, -1], [0, 1, 0]]), (5, 1))
    return pu_mlc_consistency(
        logits, logits[::-1], -logits, labels, labels[::-1], **{"mix": 0.3} | changes
    )


CALLS = {"nn_pu": _call_binary, "pu_mlc": _call_multi, "pu_mlc_consistency": _call_mixed}


def _shape(name):
    return (EXAMPLES,) if name == "nn_pu" else (EXAMPLES, CLASSES)


@pytest.mark.parametrize(("prior", "sign"), [(0.3, 1), (0.9, -1)])
def test_nn_pu_averages_to_the_non_negative_risk_on_both_sides_of_the_clamp(
    float64, binary, prior, sign
):
    scores, labels = binary
    positive = labels == 1
    assert np.sign(_bracket(scores, positive, prior)) == sign

    def risk(scores):
        return nn_pu(scores, labels, prior=prior).mean()

    found, gradient = jax.jit(jax.value_and_grad(risk))(jnp.asarray(scores))
    np.testing.assert_allclose(found, _pu_risk(scores, positive, prior), rtol=1e-14)
    np.testing.assert_allclose(gradient, _pu_gradient(scores, positive, prior), atol=1e-16)
    expected = _finite_differences(lambda s: _pu_risk(s, positive, prior), scores)
    np.testing.assert_allclose(gradient, expected, atol=1e-9)


def test_nn_pu_with_a_positive_bracket_is_the_unbiased_risk(float64, binary):
    scores, labels = binary
    own, others = scores[labels == 1], scores[labels != 1]
    loss = _sigmoid_loss
    unbiased = 0.3 * (loss(own) - loss(-own)).mean() + loss(-others).mean()
    found = nn_pu(jnp.asarray(scores), labels, prior=0.3).mean()
    np.testing.assert_allclose(found, unbiased, rtol=1e-14)


def _expected_risk(scores, of_positives, of_unlabelled, prior):
    """Of all batches of two positives and two unlabelled from a population of three points."""
    batches = np.array(list(itertools.product(range(3), repeat=4)))
    chances = of_positives[batches[:, :2]].prod(1) * of_unlabelled[batches[:, 2:]].prod(1)
    labels = np.array([1, 1, 0, 0], np.int32)
    risk = jax.vmap(lambda drawn: nn_pu(drawn, labels, prior=prior).mean())
    return chances @ np.asarray(jax.jit(risk)(scores[batches]))


@pytest.mark.parametrize("spread", [0.8, 5.0])
def test_nn_pu_expects_the_risk_of_full_labels_unless_the_clamp_bites(float64, spread):
    prior, of_positives, of_negatives = 0.3, np.array([0.1, 0.3, 0.6]), np.array([0.7, 0.2, 0.1])
    of_unlabelled = prior * of_positives + (1 - prior) * of_negatives
    scores = spread * np.array([-1.0, 0.2, 1.0])
    full = prior * of_positives @ _sigmoid_loss(scores)
    full += (1 - prior) * of_negatives @ _sigmoid_loss(-scores)
    found = _expected_risk(jnp.asarray(scores), of_positives, of_unlabelled, prior)
    if spread < 1:
        np.testing.assert_allclose(found, full, rtol=1e-14)
    else:
        assert found > full + 0.01


def test_nn_pu_takes_another_surrogate(float64, binary):
    scores, labels = binary
    positive = labels == 1

    def softplus(margins):
        return np.logaddexp(0, -margins)

    expected = 0.3 * (softplus(scores[positive]) - softplus(-scores[positive])).mean()
    expected += softplus(-scores[~positive]).mean()
    found = nn_pu(
        jnp.asarray(scores), labels, prior=0.3, surrogate=lambda z: jax.nn.softplus(-z)
    ).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_the_sigmoid_surrogate_is_symmetric():
    margins = jnp.linspace(-5, 5, 21)
    np.testing.assert_allclose(sigmoid_surrogate(margins) + sigmoid_surrogate(-margins), 1)


@pytest.mark.parametrize("label", [0, 1])
def test_nn_pu_without_positives_or_unlabelled_takes_their_means_as_zero(float64, binary, label):
    scores, _ = binary
    risk = jax.value_and_grad(
        lambda scores: nn_pu(scores, jnp.full(EXAMPLES, label), prior=0.3).mean()
    )
    found, gradient = jax.jit(risk)(scores)
    loss = 0.3 * _sigmoid_loss(scores) if label else _sigmoid_loss(-scores)
    slope = special.expit(scores) * special.expit(-scores) / EXAMPLES
    np.testing.assert_allclose(found, loss.mean(), rtol=1e-14)
    np.testing.assert_allclose(gradient, -0.3 * slope if label else slope, atol=1e-16)


def test_nn_pu_maps_over_the_prior_and_shows_one_out_of_range(binary):
    scores, labels = jnp.float32(binary[0]), binary[1]
    priors = jnp.array([0.1, 0.5, 0.9, 0.0, 1.0, jnp.nan])
    found = jax.jit(jax.vmap(lambda prior: nn_pu(scores, labels, prior=prior)))(priors)
    loss = jax.jit(lambda prior: nn_pu(scores, labels, prior=prior))
    for row, prior in zip(found[:3], (0.1, 0.5, 0.9), strict=True):
        np.testing.assert_allclose(row, loss(prior), rtol=2e-6, atol=1e-7)
    assert np.isnan(found[3:]).all()


# Of the official code, which adds 1e-10 inside the logarithms; class 2 has no positive.
GOLDEN_LABELS = np.array(
    [[1, 0, -1], [0, 1, -1], [1, -1, -1], [0, 0, -1], [1, 1, -1], [-1, 0, -1]], np.int32
)


def test_pu_mlc_agrees_with_the_official_code_in_value_and_gradient(float64):
    @jax.jit
    @jax.value_and_grad
    def risk(logits, alpha, gamma):
        return pu_mlc(logits, GOLDEN_LABELS, alpha=alpha, gamma=gamma).mean()

    logits = jnp.asarray(_grid(6, 3, 0.2, 1.5))
    found, gradient = risk(logits, 1.0, 0.55)
    np.testing.assert_allclose(found, -0.32348212736738635, rtol=0, atol=1e-8)
    expected = [-0.09224871954618334, 0.03582016216550404, 0.03684709907499737]
    np.testing.assert_allclose(gradient[0], expected, rtol=0, atol=1e-8)
    found, _ = risk(logits, 2.0, 0.85)
    np.testing.assert_allclose(found, -0.10363693129682872, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.2, 0.5), (1.0, 2.0), (TAU_ONE, 0.0)])
def test_pu_mlc_averages_to_the_variational_risk_with_temperature_and_weight_held(
    float64, multi, alpha, gamma
):
    scores, labels = multi
    held = _mlc_parts(scores, alpha, gamma)

    def risk(scores):
        return pu_mlc(scores, labels, alpha=alpha, gamma=gamma).mean()

    found, gradient = jax.jit(jax.value_and_grad(risk))(jnp.asarray(scores))
    np.testing.assert_allclose(found, _variational_risk(scores, labels == 1, *held), rtol=1e-13)
    expected = _finite_differences(lambda s: _variational_risk(s, labels == 1, *held), scores)
    np.testing.assert_allclose(gradient, expected, atol=1e-8)


def test_pu_mlc_with_gamma_zero_is_the_risk_of_vpu(float64, multi):
    scores, labels = multi
    log_phi = special.log_expit(scores)
    expected = 0
    for c in range(CLASSES):
        expected += np.log(np.exp(log_phi[:, c]).mean())
        if (labels[:, c] == 1).any():
            expected -= log_phi[labels[:, c] == 1, c].mean()
    loss = jax.jit(functools.partial(pu_mlc, alpha=TAU_ONE, gamma=0))
    np.testing.assert_allclose(loss(scores, labels).mean(), expected, rtol=1e-13)


@pytest.mark.parametrize("gamma", [0.0, 0.6])
def test_pu_mlc_of_equal_scores_has_the_floor_as_temperature_and_a_closed_form(
    float64, multi, gamma
):
    _, labels = multi
    logits = jnp.full((EXAMPLES, CLASSES), -0.5e-6)
    found = jax.jit(functools.partial(pu_mlc, alpha=1.0, gamma=gamma))(logits, labels).mean()
    phi = special.expit(-0.5)
    expected = (3 * phi**gamma - 2) * np.log(phi)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_pu_mlc_is_at_its_minimum_where_phi_is_proportional_to_the_posterior(float64):
    # Ten examples at each of four points; half of the positives are labelled.
    posterior = np.array([0.2, 0.4, 0.8, 1.0])
    points = np.repeat(np.arange(4), 10)
    labels = np.concatenate([np.arange(10) < n for n in 5 * posterior]).astype(np.int32)

    def risk(scores):
        return pu_mlc(scores[points][:, None], labels[:, None], alpha=TAU_ONE, gamma=0).mean()

    gradient = jax.jit(jax.value_and_grad(risk))
    fit = optimize.minimize(
        lambda scores: [np.asarray(part) for part in gradient(scores)],
        np.array([0.5, -1.0, 0.3, 1.0]),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9},
    )
    phi = special.expit(fit.x)
    np.testing.assert_allclose(phi / phi.max(), posterior / posterior.max(), atol=1e-6)


def test_pu_mlc_without_any_positive_lowers_every_score(multi):
    scores = jnp.float32(multi[0])
    labels = np.zeros(scores.shape, np.int32)
    gradient = jax.grad(lambda scores: pu_mlc(scores, labels, alpha=1.0, gamma=0.5).mean())
    assert (np.asarray(jax.jit(gradient)(scores)) > 0).all()


def _consistency(mixed, own, partner, labels, partner_labels, mix):
    mix = np.broadcast_to(mix, len(mixed))[:, None]
    target = mix * np.where(labels == 1, 1, special.expit(own))
    target += (1 - mix) * np.where(partner_labels == 1, 1, special.expit(partner))
    return np.square(np.log(target) - special.log_expit(mixed)).sum(-1)


def test_consistency_with_a_mix_per_example_is_the_squared_log_distance(float64, mixed):
    arguments, mix = mixed
    scores, labels = arguments[:3], arguments[3:]

    def total(scores):
        losses = pu_mlc_consistency(*scores, *labels, mix=mix)
        return losses.sum(), losses

    gradients, found = jax.jit(jax.grad(total, has_aux=True))(tuple(map(jnp.asarray, scores)))
    np.testing.assert_allclose(found, _consistency(*arguments, mix), rtol=1e-12)
    for k, gradient in enumerate(gradients):
        expected = _finite_differences(
            lambda moved, k=k: _consistency(
                *(moved if i == k else s for i, s in enumerate(scores)), *labels, mix
            ).sum(),
            scores[k],
        )
        np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_consistency_reaches_zero_where_the_mixed_scores_hit_the_target(float64, mixed):
    (_, own, partner, labels, partner_labels), mix = mixed
    labels, partner_labels = np.minimum(labels, 0), partner_labels
    target = mix[:, None] * special.expit(own)
    target += (1 - mix[:, None]) * np.where(partner_labels == 1, 1, special.expit(partner))
    hit = jnp.asarray(special.logit(target))
    loss = jax.jit(pu_mlc_consistency)
    found = loss(hit, own, partner, labels, partner_labels, mix=mix)
    np.testing.assert_allclose(found, 0, atol=1e-24)


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_consistency_of_an_unmixed_example_sees_that_example_alone(mixed, mix):
    arguments = [jnp.asarray(a, jnp.float32 if a.dtype == float else None) for a in mixed[0]]
    absent = 1 if mix == 0 else 2
    slopes = jax.grad(
        lambda scores, mix: pu_mlc_consistency(*scores, *arguments[3:], mix=mix).sum(), (0, 1)
    )
    gradients = jax.jit(slopes)(tuple(arguments[:3]), mix)
    assert np.isfinite(gradients[0]).all()
    assert (np.asarray(gradients[0][absent]) == 0).all()
    assert gradients[1] == 0


def test_consistency_stays_accurate_where_the_probabilities_underflow():
    low = jnp.full((1, 1), -3e4)
    unknown = jnp.zeros((1, 1), jnp.int32)

    @jax.jit
    def loss(mixed, own):
        return pu_mlc_consistency(mixed, own, low, unknown, unknown, mix=0.25)[0]

    np.testing.assert_allclose(loss(low + 3, low), 9, rtol=1e-3)
    # Both targets are equal, so the derivative of the log-target is the mix.
    slope = jax.jit(jax.grad(loss, 1))(low + 3, low)
    np.testing.assert_allclose(slope, [[2 * -3 * 0.25]], rtol=1e-3)


def test_consistency_shows_a_traced_mix_out_of_range_in_its_example(mixed):
    arguments = [jnp.asarray(a, jnp.float32 if a.dtype == float else None) for a in mixed[0]]
    mix = jnp.linspace(0.0, 1.0, EXAMPLES).at[3].set(1.5)
    found = jax.jit(pu_mlc_consistency)(*arguments, mix=mix)
    np.testing.assert_array_equal(np.isnan(found), np.arange(EXAMPLES) == 3)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("nn_pu", {"labels": np.ones(EXAMPLES)}, r"\(10,\); .*float64 .*\(10,\); cast class"),
        (
            "nn_pu",
            {"labels": np.ones(EXAMPLES, bool)},
            r"labels must be integers.*bool.*; cast class",
        ),
        ("nn_pu", {"labels": np.ones(9, int)}, r"labels .*\(10,\); .*\(9,\)\.$"),
        ("nn_pu", {"labels": np.ones((10, 1), int)}, r"\(10, 1\); drop .* labels\[:, 0\]"),
        ("nn_pu", {"where": np.ones(EXAMPLES)}, "where must be boolean, got float32; compare"),
        ("nn_pu", {"where": np.ones(9, bool)}, r"where .* per example, .*\(10,\); got \(9,\)"),
        ("nn_pu", {"prior": np.full(EXAMPLES, 0.5)}, r"prior must be a scalar; got shape \(10,\)"),
        ("pu_mlc", {"labels": np.ones(EXAMPLES, int)}, r"labels .*\(10, 3\); .*\(10,\)\.$"),
        ("pu_mlc", {"labels": np.ones((10, 3))}, r"labels .*float64 .*\(10, 3\); cast class"),
        (
            "pu_mlc",
            {"where": np.ones((10, 3), bool)},
            r"where .* per example, .*\(10,\); got \(10, 3\)",
        ),
        ("pu_mlc", {"alpha": np.ones(CLASSES)}, r"alpha must be a scalar; got shape \(3,\)"),
        ("pu_mlc_consistency", {"mix": np.ones(3)}, r"one value per example, shape \(10,\); .*3"),
    ],
)
def test_bad_arguments_are_named_with_their_shapes_and_the_repair(name, changes, message):
    with pytest.raises(ValueError, match=message):
        CALLS[name](jnp.zeros(_shape(name)), **changes)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("nn_pu", (10, 1), r"\[B\], got shape \(10, 1\). Drop the last axis: logits\[:, 0\]"),
        ("nn_pu", (10, 3), r"logits must have shape \[B\], got shape \(10, 3\)\.$"),
        ("pu_mlc", (10,), r"\[B, C\], got shape \(10,\). .*logits\[:, None\]"),
        ("pu_mlc", (2, 5, 3), r"logits must have shape \[B, C\], got shape \(2, 5, 3\)\.$"),
    ],
)
def test_logits_of_another_shape_are_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        CALLS[name](jnp.zeros(shape))
    with pytest.raises(ValueError, match="logits must be floating, got int32; cast"):
        CALLS[name](jnp.zeros(shape, jnp.int32))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, np.zeros((10, 2)), r"mixed_logits .*logits, \(10, 3\); got float32 .*\(10, 2\)\.$"),
        (2, np.zeros((10, 3), int), r"partner_logits must be floating.*int32 .*Cast them"),
        (3, np.zeros((10, 3)), r"^labels must be integers .*; cast class"),
        (4, np.zeros((9, 3), int), r"partner_labels .*\(10, 3\); .*\(9, 3\)\.$"),
    ],
)
def test_consistency_names_the_argument_that_does_not_fit(position, value, message):
    zeros = np.zeros((EXAMPLES, CLASSES), np.float32)
    arguments = [zeros, zeros, zeros, zeros.astype(int), zeros.astype(int)]
    arguments[position] = value
    with pytest.raises(ValueError, match=message):
        pu_mlc_consistency(*map(jnp.asarray, arguments), mix=0.5)
