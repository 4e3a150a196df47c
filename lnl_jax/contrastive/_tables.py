"""Tables of the rows of all examples, with the rule for each row of an example drawn twice."""

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer
from lnl_jax.contrastive._temperatures import ContrastiveRows

if TYPE_CHECKING:
    from lnl_jax.train import Table


def sogclr_table(n: int, *, fingerprint: str = "") -> "Table":
    """A table of ``log_u`` for `sogclr` and `fastclip`: no example was visited yet.

    What a batch holds twice gets the logarithm of the mean of both averages.

    Args:
        n: examples of the training set.
        fingerprint: as in `lnl_jax.train.Table`.

    Returns:
        A `lnl_jax.train.Table` of ``[n]`` in float32. Two kinds of anchors, such as images and
        texts, need one each.

    Raises:
        ValueError: if `n` is no integer of at least 1.

    Example:
        >>> sogclr_table(3).values.tolist()
        [-inf, -inf, -inf]
    """
    # Where a table is used, so is training; losses alone do not load it.
    from lnl_jax.train import Table, segment_log_mean_exp

    check_integer("n", n)
    return Table(_never(n), segment_log_mean_exp, fingerprint)


def isogclr_table(n: int, temperature: ArrayLike, *, fingerprint: str = "") -> "Table":
    """A table of `ContrastiveRows` for `isogclr`: no example was visited yet.

    What a batch holds twice gets the mean of both temperatures and velocities and the logarithm of
    the mean of both averages.

    Args:
        n: examples of the training set.
        temperature: where the temperatures start, above 0, a scalar or one per example, ``[n]``.
        fingerprint: as in `lnl_jax.train.Table`.

    Returns:
        A `lnl_jax.train.Table` of rows of ``[n]`` in float32. Two kinds of anchors, such as images
        and texts, need one each.

    Raises:
        ValueError: if `n` is no integer of at least 1, or for a temperature out of range or of
            another shape.

    Example:
        >>> isogclr_table(2, 0.1).values.temperature.tolist()
        [0.100, 0.100]
    """
    from lnl_jax.train import Table, segment_log_mean_exp, segment_mean

    check_integer("n", n)
    check_range("temperature", temperature, above=0, below=np.inf)
    if np.shape(temperature) not in ((), (n,)):
        raise ValueError(
            f"temperature must be a scalar or have one value per example, shape {(n,)}; got shape "
            f"{np.shape(temperature)}."
        )
    start = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), n)
    rows = ContrastiveRows(start, _never(n), jnp.zeros(n, jnp.float32))
    rules = ContrastiveRows(segment_mean, segment_log_mean_exp, segment_mean)
    return Table(rows, rules, fingerprint)


def _never(n: int) -> Array:
    return jnp.full(n, -jnp.inf, jnp.float32)
