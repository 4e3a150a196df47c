"""What projectors start from: a public image tower and words, as arrays with their functions."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments.distillation_parts import Parts

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Foundation:
    """What the public has; a pytree of its arrays.

    Attributes:
        tower: frozen parameters, and statistics where there are some.
        words: unit embeddings of the classes' names, ``[D, K]``.
        scale: of the cosines.
        encode: ``(tower, images [B, H, W, C] from 0 to 1, dtype of the computation)`` to features
            ``[B, D]``, not normalised; float32 if no dtype is given.
        targets: the kernels that an adapter changes, an expression of
            `distill.projectors.lora_shapes`.
    """

    tower: PyTree
    words: jax.Array
    scale: jax.Array
    encode: Callable[..., jax.Array] = dataclasses.field(metadata={"static": True})
    targets: str = dataclasses.field(metadata={"static": True})


class FoundationMaker(NamedTuple):
    """How a study comes by its foundation model.

    Attributes:
        form: real images to the model's arrays, or to their `jax.ShapeDtypeStruct`.
        make: real images to the model.
    """

    form: Callable[[Parts], Foundation]
    make: Callable[[Parts], Foundation]
