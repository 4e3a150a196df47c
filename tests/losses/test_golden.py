"""The official losses, run in float64 by their authors' code: values, gradients, temperatures.

A key is `case/loss/settings/{value,grad,lambda}`; ../golden holds the file as it was made.
"""

import ast
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


LOSSES = {
    "ce": cross_entropy,
    "gce": losses.generalized_cross_entropy,
    "ldr_kl_softplus_norm": ldr_kl_softplus_norm,
}

pytestmark = pytest.mark.usefixtures("float64")
assert_equal = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12)


def recorded(loss):
    """The cases and settings of one loss that the file holds."""
    with np.load(FILE) as file:
        matches = filter(None, map(KEY.fullmatch, file.files))
        return [match[0].removesuffix("/value") for match in matches if match["loss"] == loss]


def read_settings(key):
    pairs = (KEY.fullmatch(f"{key}/value")["settings"] or "").split(",")
    return {name: ast.literal_eval(value) for name, value in (p.split("=") for p in pairs if p)}


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


@pytest.mark.parametrize("key", [key for loss in LOSSES for key in recorded(loss)])
def test_mean_and_gradient_are_the_official_ones(official, key):
    loss = LOSSES[key.split("/")[1]]
    value, gradient = mean(loss, *of_case(official, key, "logits", "labels"), read_settings(key))
    assert_equal(value, official[f"{key}/value"])
    assert_equal(gradient, official[f"{key}/grad"])


@functools.partial(jax.jit, static_argnames="softplus")
@functools.partial(jax.value_and_grad, has_aux=True)
def visit(logits, labels, rows, *, margin, lam0, alpha, softplus):
    logits = losses.l1_mean_normalize(jax.nn.softplus(logits) if softplus else logits)
    found, rows = losses.aldr_kl_step(
        logits, labels, rows, temperature=lam0, alpha=alpha, margin=margin
    )
    return found.mean(), rows


@pytest.mark.parametrize("key", recorded("aldr_kl"))
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
