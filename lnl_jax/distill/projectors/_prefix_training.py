"""Projectors whose tower has a frozen prefix, which is computed once for each image."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from jax import Array

from lnl_jax.distill.networks import apply_in_chunks
from lnl_jax.distill.projectors._foundation import Foundation, behind_prefix
from lnl_jax.distill.projectors._training import (
    Adaptation,
    TrainedProjector,
    encode_all,
    fitted,
    initial_projector,
    learn_classes,
    unchanged,
)


def train_behind_prefix(
    foundation: Foundation,
    adaptation: Adaptation,
    hidden: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    *,
    seed: int,
    steps: int,
    batch_size: int = 50,
    objective: Callable[[Array, Mapping], Array] = learn_classes,
    learning_rate: float = 3e-3,
) -> TrainedProjector:
    """Fits an adapter to whole images of which the frozen prefix was computed once.

    The images are not augmented; each pass goes through all of them in another order.

    Args:
        foundation: the frozen model, with a prefix.
        adaptation: what is trained; without a tower's adapter the features are computed once.
        hidden: of `prefix_features`, ``[N, ...]``.
        arrays: what the objective reads, ``[N, ...]`` each.
        seed: of the initialisation and of the order.
        steps: how many.
        batch_size: images in each, at most N.
        objective: ``(logits [B, K], batch)`` to losses ``[B]``; the same function is one program.
        learning_rate: the first.

    Returns:
        The projector, in float16; it belongs to the whole foundation.

    Raises:
        ValueError: if no prefix is known.
    """
    later = behind_prefix(foundation)
    start = initial_projector(later, adaptation, seed)
    encode, tower = later.encode, later.tower
    if not adaptation.rank:
        hidden = apply_in_chunks(functools.partial(encode_all, jax.device_put(later)), hidden)
        encode, tower = unchanged, {}
    columns = dict(arrays) | {"images": hidden}
    batches = (
        {name: values[rows] for name, values in columns.items()}
        for rows in _orders(len(hidden), batch_size, steps, seed)
    )
    options = {"steps": steps, "objective": objective, "learning_rate": learning_rate}
    return fitted(start, encode, tower, batches, **options)


def _orders(count: int, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of each step: pass after pass, what does not fill a batch left out."""
    rng, size = np.random.default_rng((seed, 3)), min(batch_size, count)
    passes = (rng.permutation(count)[: count // size * size] for _ in itertools.count())
    return itertools.islice((rows for one in passes for rows in one.reshape(-1, size)), steps)
