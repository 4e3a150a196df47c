"""The classes may lie along any axis, and nothing is transposed to bring them elsewhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.cases import CASES

# They multiply with matrices of classes or search along them, and have the classes last for that.
LAST = ("aldr_kl", "backward_correction", "bi_tempered", "forward_correction", "generalized_jensen")
# Their rows have the classes last, as tables have.
LAST += ("elr_step", "sop_step", "scent_step")
IN_PLACE = [name for name in CASES if not name.startswith(LAST) or name.startswith("aldr_kl_step")]
FAST = ("ldr_kl", "ldam")


def one_program(case, axis, logits, labels, where):
    """Losses of classes and of distributions, and the gradient of their sum."""

    @jax.jit
    def losses_and_gradient(logits, labels, where):
        def total(logits):
            call = functools.partial(case, axis=axis, where=where)
            hard = call(logits, labels)
            soft = call(logits, jnp.moveaxis(jnp.full((2, 4, 5), 0.2), -1, axis))
            return (hard + soft).sum(), (hard, soft)

        return jax.value_and_grad(total, has_aux=True)(logits)

    return losses_and_gradient(logits, labels, where)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CASES]
)
def test_classes_in_the_middle_give_the_losses_and_gradients_of_classes_at_the_end(name, rng):
    logits = jnp.asarray(2 * rng.normal(size=(2, 4, 5)), jnp.float32)
    labels = jnp.asarray(rng.integers(4, size=(2, 4)), jnp.int32)
    where = jnp.asarray(np.arange(5) < 4)
    if "top" in name or "ldam" in name:
        where = where | True
    (_, at_end), gradient = one_program(CASES[name], -1, logits, labels, where)
    moved = jnp.moveaxis(logits, -1, 1)
    (_, in_middle), of_moved = one_program(CASES[name], 1, moved, labels, where[:, None])
    for one, other in zip(in_middle, at_end, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jnp.moveaxis(of_moved, 1, -1), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", IN_PLACE)
def test_nothing_is_transposed(name, rng):
    logits = jnp.asarray(rng.normal(size=(5, 8)), jnp.float32)
    labels = jnp.asarray(rng.integers(5, size=8), jnp.int32)
    program = jax.make_jaxpr(jax.grad(lambda logits: CASES[name](logits, labels, axis=0).sum()))
    assert "transpose[" not in str(program(logits))
