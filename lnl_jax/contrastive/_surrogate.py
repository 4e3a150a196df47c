"""Values whose gradient is by design not their own, but whose second derivative is that gradient's.

With `jax.lax.stop_gradient` the weights of a surrogate were constants at every order, and Hessians
silently missed how they move.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


@jax.custom_jvp
def with_slopes(value: Array, slopes: tuple[Array, ...], arguments: tuple[Array, ...]) -> Array:
    """The value, with the gradient of ``sum(slope * argument)``, slopes held."""
    del slopes, arguments
    return value


@with_slopes.defjvp
def _of_value(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value, slopes, _ = primals
    _, _, of_arguments = tangents
    parts = [slope * of for slope, of in zip(slopes, of_arguments, strict=True)]
    return value, sum(parts[1:], parts[0])


def constant_beside(
    queries: Array, keys: Array, constant: ArrayLike
) -> tuple[Array, Array, ArrayLike]:
    """The same, without a gradient to `constant`; one by the embeddings still depends on it."""
    if not isinstance(constant, jax.Array):
        return queries, keys, constant
    return _constant_beside(jnp.asarray(queries), jnp.asarray(keys), constant)


@jax.custom_jvp
def _constant_beside(queries: Array, keys: Array, constant: Array) -> tuple[Array, Array, Array]:
    return queries, keys, constant


@_constant_beside.defjvp
def _of_constant(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    return primals, (*tangents[:2], jnp.zeros_like(tangents[2]))


@jax.custom_jvp
def log_mixture(gamma: Array, before: Array, now: Array) -> Array:
    """``log((1 - gamma) exp(before) + gamma exp(now))``, for a finite `now`, gamma of 1 as well."""
    return jnp.logaddexp(jnp.log1p(-gamma) + before, jnp.log(gamma) + now)


@log_mixture.defjvp
def _of_log_mixture(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (gamma, before, now), (of_gamma, of_before, of_now) = primals, tangents
    mixture = log_mixture(gamma, before, now)
    # Finite, as times a gradient of 0 it must be 0.
    grown = jnp.exp(now - mixture) - jnp.exp(jnp.minimum(before - mixture, 80.0))
    kept = jnp.exp(jnp.log1p(-gamma) + before - mixture)
    new = jnp.exp(jnp.log(gamma) + now - mixture)
    return mixture, grown * of_gamma + kept * of_before + new * of_now
