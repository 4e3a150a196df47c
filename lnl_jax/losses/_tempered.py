r"""Means of exponentials of scores at a temperature, exact at any temperature.

Scores are counted from the largest, so that they are at most 0 and no exponential overflows.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from lnl_jax.losses._checks import along_classes


def tempered_mean(
    below: Array, temperature: Array, included: Array | None, count: Array, axis: int
) -> Array:
    r""":math:`\lambda \log \frac{1}{K} \sum_j \exp(\delta_j / \lambda)`, ``[...]``.

    Args:
        below: :math:`\delta`, ``[..., K]``, none above 0; ``-inf`` for classes that are masked.
        temperature: :math:`\lambda`, a scalar or ``[...]``.
        included: classes that take part, ``[..., K]``, or None where all do.
        count: how many do, :math:`K`, a scalar or ``[...]``.
        axis: of the classes, counted from the end.
    """
    mean = tempered_mass(below, along_classes(temperature, axis)).sum(axis) / count
    below, held_temperature, held_mean, count = jax.lax.stop_gradient(
        (below, temperature, mean, count)
    )
    lost = _lost_to_rounding(below, held_temperature, held_mean, included, count, axis)
    return temperature * jnp.log(mean) + lost


@jax.custom_jvp
def tempered_mass(below: Array, temperature: Array) -> Array:
    """``exp(below / temperature)``; a score of -inf has no mass and moves nothing."""
    return jnp.exp(below * _inverse(temperature))


# JAX's own rule would bound the scores first, in every call, so that 0 times -inf cannot occur in
# the derivative with respect to the temperature.
def _mass_moves(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (below, temperature), (below_moves, temperature_moves) = primals, tangents
    mass, inverse = tempered_mass(below, temperature), _inverse(temperature)
    moves = jnp.zeros_like(mass)
    if not isinstance(below_moves, SymbolicZero):
        moves = mass * inverse * below_moves
    if not isinstance(temperature_moves, SymbolicZero):
        scaled = jnp.where(mass > 0, below, 0) * inverse
        moves -= mass * scaled * inverse * temperature_moves
    return mass, moves


tempered_mass.defjvp(_mass_moves, symbolic_zeros=True)


def _inverse(temperature: Array) -> Array:
    """A multiplication is faster than a division; a subnormal number has no finite inverse."""
    return 1 / jnp.maximum(temperature, float(jnp.finfo(temperature.dtype).tiny))


def _lost_to_rounding(
    below: Array, temperature: Array, mean: Array, included: Array | None, count: Array, axis: int
) -> Array:
    r"""What a logarithm near 0 loses when it is multiplied by a large temperature.

    Where all scores lie within one temperature :math:`\log(1 + \mathrm{mean}(e^x - 1))` has a small
    relative error. Its gradient is the same softmax, so only the value is mended. This takes a
    fixed pass over all scores: to ask first whether any example needs it would be cheaper on one
    device, but many would wait for each other's answer.
    """
    scaled = below * _inverse(along_classes(temperature, axis))
    near = scaled >= -1
    terms = jnp.where(near, _exponential_minus_1(jnp.where(near, scaled, 0)), jnp.inf)
    if included is not None:
        terms = jnp.where(included, terms, 0)
    missing = terms.sum(axis) / count
    flat = missing <= 0
    mended = jnp.log1p(jnp.where(flat, missing, 0))
    return jnp.where(flat, temperature * (mended - jnp.log(mean)), 0)


def _exponential_minus_1(x: Array) -> Array:
    """The series, for x in [-1, 0]: a third of the time of `jax.numpy.expm1`, which divides."""
    epsilon, terms, factorial = float(jnp.finfo(x.dtype).eps), 1, 1
    while factorial * epsilon < 2:
        terms += 1
        factorial *= terms
    total = jnp.ones_like(x)
    for power in range(terms, 1, -1):
        total = 1 + x * (total * (1 / power))
    return x * total
