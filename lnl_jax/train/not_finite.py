"""Steps whose loss, gradients or parameters are not finite: which went first, and leaving out."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any
# In the order in which a step comes to them.
PARTS = ("loss", "gradients", "parameters")
_SKIPPED: contextvars.ContextVar[bool] = contextvars.ContextVar("skipped", default=False)


class NotFiniteError(FloatingPointError):
    """A training whose loss, gradients or parameters became NaN or infinite."""


@contextlib.contextmanager
def skip_not_finite(skip: bool = True) -> Iterator[None]:
    """Lets the steps that are made within it leave out a batch on which something is not finite.

    Such a step leaves parameters, `extra`, tables and optimiser as they were, to the bit; only its
    number goes on. It reports a loss of 0 for 0 examples, and their number as ``skipped``.

    Args:
        skip: whether they do.

    Yields:
        Nothing.

    Example:
        >>> import optax
        >>> from lnl_jax import train
        >>> tx = optax.sgd(0.1)
        >>> def loss_fn(params, extra, rows, batch, key):
        ...     return params * batch["x"], (extra, rows, {})
        >>> with skip_not_finite():
        ...     step = train.make_train_step(loss_fn, tx)
        >>> state = train.init_state(jnp.ones(()), tx, key=jax.random.key(0))
        >>> state, metrics = step(state, {"x": jnp.array([jnp.inf])})
        >>> float(state.params), float(metrics["skipped"])
        (1.0, 1.0)
    """
    token = _SKIPPED.set(skip)
    try:
        yield
    finally:
        _SKIPPED.reset(token)


def are_skipped() -> bool:
    """Whether a step that is made now leaves out such batches."""
    return _SKIPPED.get()


def first_not_finite(loss: Array, gradient_norm: Array, params: PyTree) -> Array:
    """Which of the `PARTS` is not finite, counted from 1; 0 where all are.

    Args:
        loss: of the step.
        gradient_norm: of all its gradients.
        params: after the step.

    Returns:
        An int32.
    """
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]
    whole = jnp.stack(leaves).all() if leaves else jnp.bool_(True)
    code = jnp.where(whole, 0, 3)
    code = jnp.where(jnp.isfinite(gradient_norm), code, 2)
    return jnp.where(jnp.isfinite(loss), code, 1).astype(jnp.int32)


def kept_where(good: Array, new: PyTree, old: PyTree) -> PyTree:
    """One pytree or the other, as a whole."""
    return jax.tree.map(lambda after, before: jnp.where(good, after, before), new, old)
