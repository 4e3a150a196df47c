"""What projectors start from: a public image tower and words, as arrays with their functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

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
    """

    tower: PyTree
    words: Array
    scale: Array
    encode: Callable[..., Array] = dataclasses.field(metadata={"static": True})
    targets: str = dataclasses.field(metadata={"static": True})

    def arrays(self) -> dict[str, PyTree]:
        """Tower, words and scale: what is to be kept of a model that was trained in place."""
        return {"tower": self.tower, "words": self.words, "scale": self.scale}
