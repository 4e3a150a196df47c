"""What projectors start from: a public image tower and words, as arrays with their functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from lnl_jax.distill.networks import apply_in_chunks

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Foundation:
    """A foundation model: what the public has; a pytree of its arrays.

    Attributes:
        tower: frozen parameters, and statistics where there are some.
        words: unit embeddings of the classes' names, ``[D, K]``.
        scale: of the cosines.
        encode: ``(tower, images [B, H, W, C] from 0 to 1, dtype of the computation)`` to features
            ``[B, D]``, not normalised; if no dtype is given, in that of the model.
        targets: the kernels that an adapter changes, an expression of `lora_shapes`.
        prefix: the part of `encode` before all that an adapter changes, ``(tower, images, dtype)``
            to what goes into the rest; None where it is not known.
        rest: ``(tower, what prefix gives, dtype)`` to features.
    """

    tower: PyTree
    words: Array
    scale: Array
    encode: Callable[..., Array] = dataclasses.field(metadata={"static": True})
    targets: str = dataclasses.field(metadata={"static": True})
    prefix: Callable[..., Array] | None = dataclasses.field(default=None, metadata={"static": True})
    rest: Callable[..., Array] | None = dataclasses.field(default=None, metadata={"static": True})

    def arrays(self) -> dict[str, PyTree]:
        """Tower, words and scale: what is to be kept of a model that was trained in place."""
        return {"tower": self.tower, "words": self.words, "scale": self.scale}


def behind_prefix(foundation: Foundation) -> Foundation:
    """The same model, which takes what its prefix gives instead of images.

    Args:
        foundation: with a prefix.

    Returns:
        The model without one; its adapters are those of the whole.

    Raises:
        ValueError: if no prefix is known.
    """
    _check_prefix(foundation)
    return dataclasses.replace(foundation, encode=foundation.rest, prefix=None, rest=None)


def prefix_features(foundation: Foundation, images: np.ndarray, *, chunk: int = 500) -> np.ndarray:
    """What goes into the part that adapters change: computed once, trained on many times.

    Args:
        foundation: with a prefix.
        images: from 0 to 1, ``[N, H, W, C]``.
        chunk: how many at a time.

    Returns:
        ``[N, ...]``, on the host.

    Raises:
        ValueError: if no prefix is known.
    """
    _check_prefix(foundation)
    return apply_in_chunks(
        functools.partial(_prefix, jax.device_put(foundation)), images, chunk=chunk
    )


@jax.jit
def _prefix(foundation: Foundation, images: Array) -> Array:
    return foundation.prefix(foundation.tower, images)


def _check_prefix(foundation: Foundation) -> None:
    if foundation.prefix is None or foundation.rest is None:
        raise ValueError("foundation must have a prefix, which no adapter changes, and a rest.")
