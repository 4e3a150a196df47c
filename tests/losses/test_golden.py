"""The official losses, run in float64 by their authors' code: values, gradients, temperatures.

A key is `case/loss/settings/{value,grad,lambda}`; ../golden holds the file as it was made.
"""

import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import losses

FILE = Path(__file__).parents[1] / "golden" / "ldr_official.npz"
KEY = re.compile(r"(?P<case>[^/]+)/(?P<loss>[^/]+)(/(?P<settings>[^/]+))?/value")


def cross_entropy(logits, labels):
    return losses.ldr_kl(logits, labels) + math.log(logits.shape[-1])


def ldr_kl_softplus_norm(logits, labels, *, lam, margin):
    logits = losses.softplus_mean_normalize(logits)
    return losses.ldr_kl(logits, labels, temperature=lam, margin=margin)


def symmetric_cross_entropy(logits, labels, *, balance, A):
    return losses.symmetric_cross_entropy(
        logits, labels, alpha=1 - balance, beta=balance, log_zero=-A
    )


def jensen_shannon(logits, labels, *, weights):
    return losses.jensen_shannon(logits, labels, weight=weights[0])


def active_passive(passive):
    """Normalised cross-entropy and a passive loss, weighted by the caller."""

    def loss(logits, labels, *, alpha, beta):
        active = losses.normalized_cross_entropy(logits, labels)
        return alpha * active + beta * passive(logits, labels)

    return loss


# The official one-hot labels, and so the logarithms of their clipped zeros, are float32.
LOG_ZERO = float(np.log(np.float32(1e-4)))


def reverse_cross_entropy(logits, labels):
    """Ours, and what the official code adds by lifting every probability to 1e-7."""
    lifted = jnp.maximum(1e-7 - jax.nn.softmax(logits), 0).sum(-1)
    return losses.reverse_cross_entropy(logits, labels, log_zero=LOG_ZERO) - LOG_ZERO * lifted


agce = losses.asymmetric_generalized_cross_entropy
LOSSES = {
    "ce": cross_entropy,
    "gce": losses.generalized_cross_entropy,
    "ldr_kl_softplus_norm": ldr_kl_softplus_norm,
    "crammer_singer": losses.crammer_singer,
    "weston_watkins": losses.weston_watkins,
    "sce": symmetric_cross_entropy,
    "rce": reverse_cross_entropy,
    "mse": losses.mean_squared_error,
    "nce": losses.normalized_cross_entropy,
    "agce": agce,
    "aul": losses.asymmetric_unhinged,
    "jsc": jensen_shannon,
    "nce_rce": active_passive(reverse_cross_entropy),
    "nce_agce": active_passive(functools.partial(agce, a=3.0, q=1.5)),
    "nce_aul": active_passive(functools.partial(losses.asymmetric_unhinged, a=6.0, q=1.5)),
}
# The official code keeps the arguments of its logarithms above 1e-7; ours are exact.
CLIPPED = {"jsc": 2e-5}

pytestmark = pytest.mark.usefixtures("float64")
assert_equal = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12)


def recorded(loss):
    """The cases and settings of one loss that the file holds."""
    with np.load(FILE) as file:
        matches = filter(None, map(KEY.fullmatch, file.files))
        return [match[0].removesuffix("/value") for match in matches if match["loss"] == loss]


def keys_of(*names):
    """All that is recorded; other batches than the first have programs of their own: slow."""
    return [
        pytest.param(key, marks=() if key.startswith("B16_") else pytest.mark.slow)
        for name in names
        for key in recorded(name)
    ]


def read_settings(key):
    pairs = (KEY.fullmatch(f"{key}/value")["settings"] or "").split(",")
    return {name: read_value(value) for name, value in (p.split("=") for p in pairs if p)}


def read_value(text):
    if text in ("True", "False"):
        return text == "True"
    numbers = tuple(float(number) for number in text.split("_"))
    return numbers if len(numbers) > 1 else numbers[0]


@pytest.fixture(scope="module")
def official():
    with np.load(FILE) as file:
        return dict(file)


def of_case(official, key, *names):
    return [jnp.asarray(official[f"{key.split('/')[0]}/{name}"]) for name in names]


@pytest.mark.parametrize("loss", [*LOSSES, "aldr_kl"])
def test_the_file_holds_every_loss(loss):
    assert recorded(loss)


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.value_and_grad, argnums=1)
def mean(loss, logits, labels, settings):
    return loss(logits, labels, **settings).mean()


@pytest.mark.parametrize("key", keys_of(*LOSSES))
def test_mean_and_gradient_are_the_official_ones(official, key):
    loss = LOSSES[key.split("/")[1]]
    value, gradient = mean(loss, *of_case(official, key, "logits", "labels"), read_settings(key))
    atol = CLIPPED.get(key.split("/")[1], 1e-12)
    assert_equal(value, official[f"{key}/value"], atol=atol)
    assert_equal(gradient, official[f"{key}/grad"], atol=atol)


def test_every_loss_of_the_file_is_compared(official):
    recorded_losses = {match["loss"] for match in map(KEY.fullmatch, official) if match}
    assert recorded_losses == {*LOSSES, "aldr_kl"}


@functools.partial(jax.jit, static_argnames="softplus")
@functools.partial(jax.value_and_grad, has_aux=True)
def visit(logits, labels, rows, *, margin, lam0, alpha, softplus):
    logits = losses.l1_mean_normalize(jax.nn.softplus(logits) if softplus else logits)
    found, rows = losses.aldr_kl_step(
        logits, labels, rows, temperature=lam0, alpha=alpha, margin=margin
    )
    return found.mean(), rows


@pytest.mark.parametrize("key", keys_of("aldr_kl"))
def test_visits_leave_the_official_table_of_temperatures(official, key):
    settings = read_settings(key)
    table = jnp.full_like(official[f"{key}/lambda"][0], settings["lam0"])
    trajectory, indices, labels = of_case(official, key, "aldr_logits", "aldr_ids", "labels")
    for number, (logits, index) in enumerate(zip(trajectory, indices, strict=True)):
        (value, rows), gradient = visit(logits, labels, table[index], **settings)
        table = table.at[index].set(rows)
        assert_equal(value, official[f"{key}/value"][number])
        assert_equal(gradient, official[f"{key}/grad"][number])
        assert_equal(table, official[f"{key}/lambda"][number])
