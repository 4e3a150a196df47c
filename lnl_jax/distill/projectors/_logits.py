"""Projectors at work: their logits, and the file of an adapter."""

import dataclasses
import functools
import io
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from lnl_jax._files import parse_npy
from lnl_jax.distill.networks import apply_in_chunks
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.projectors._lora import merge_lora
from lnl_jax.distill.projectors._projector import project
from lnl_jax.distill.projectors._training import (
    Adaptation,
    TrainedProjector,
    initial_projector,
    label_dtype,
    online_teachers_loss,
    to_float16,
)
from lnl_jax.distill.training import NetworkTraining

PyTree = Any


def merged_tower(foundation: Foundation, projector: TrainedProjector) -> PyTree:
    """Merges the adapter into the tower, on the device.

    Args:
        foundation: the frozen model.
        projector: whose adapter it is.

    Returns:
        Parameters as `Foundation.encode` takes them.
    """
    adapter = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), projector.adapter["encoder"])
    return _merge(foundation.tower, adapter) if adapter else jax.device_put(foundation.tower)


_merge = jax.jit(merge_lora)


def projector_logits(
    foundation: Foundation, projector: TrainedProjector, *, dtype: Any = jnp.float32
) -> Callable[[Any], Array]:
    """Makes a compiled function of a projector.

    Args:
        foundation: the frozen model.
        projector: whose adapter is merged once, so that all projectors share one program.
        dtype: of the computation in the tower; the head's is float32.

    Returns:
        Images ``[B, H, W, C]`` to float32 ``[B, K]``, which stay on the device.
    """
    head = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32),
        {k: v for k, v in projector.adapter.items() if k != "encoder"},
    )
    change = head["head"]
    delta = change["delta"] if "delta" in change else change["a"] @ change["b"]
    plain = jax.device_put(head | {"encoder": {}, "head": {"delta": delta}})
    adapted = dataclasses.replace(
        foundation,
        tower=merged_tower(foundation, projector),
        words=jax.device_put(projector.words),
    )
    return functools.partial(_project, adapted, plain, dtype=dtype)


def zero_shot_logits(foundation: Foundation) -> Callable[[Any], Array]:
    """Makes a compiled function of a foundation model as it is, in the dtype of labels.

    Args:
        foundation: the model.

    Returns:
        Images ``[B, H, W, C]`` to float32 ``[B, K]``, which stay on the device.
    """
    return label_logits(foundation, initial_projector(foundation, Adaptation(0, None), 0))


def label_logits(foundation: Foundation, projector: TrainedProjector) -> Callable[[Any], Array]:
    """`projector_logits` in the dtype of labels.

    Args:
        foundation: the frozen model.
        projector: with its adapter.

    Returns:
        Images ``[B, H, W, C]`` to float32 ``[B, K]``, which stay on the device.
    """
    return projector_logits(foundation, projector, dtype=label_dtype())


def projector_training(
    foundation: Foundation,
    adaptation: Adaptation,
    model: Any,
    teachers: PyTree,
    *,
    ce_weight: float,
    seed: int,
) -> NetworkTraining:
    """A projector on streamed batches, which follows teachers that see them in the same step.

    Args:
        foundation: the frozen model.
        adaptation: what is trained.
        model: the teachers' network.
        teachers: their variables, stacked.
        ce_weight: of the classes.
        seed: of the initialisation.

    Returns:
        The training; `stored_projector` makes the projector of its last parameters.
    """
    start = initial_projector(foundation, adaptation, seed)

    def network(params, extra):
        return label_logits(foundation, stored_projector(foundation, params))

    loss = online_teachers_loss(model, ce_weight)
    return NetworkTraining(loss, (foundation, teachers), start.adapter, network)


def stored_projector(foundation: Foundation, adapter: PyTree) -> TrainedProjector:
    """An adapter whose head began as the foundation model's words, as it is stored.

    Args:
        foundation: the frozen model.
        adapter: in any floating dtype.

    Returns:
        The projector, in float16.
    """
    return to_float16(TrainedProjector(adapter, foundation.words))


@functools.partial(jax.jit, static_argnames="dtype")
def _project(foundation, adapter, images, *, dtype):
    encode = functools.partial(foundation.encode, dtype=dtype)
    return project(encode, foundation.tower, foundation.words, adapter, images)


def projector_predict(
    foundation: Foundation, projector: TrainedProjector
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function for any number of images, in float32.

    Args:
        foundation: the frozen model.
        projector: with its adapter.

    Returns:
        Images ``[N, H, W, C]`` to logits ``[N, K]`` on the host.
    """
    return functools.partial(apply_in_chunks, projector_logits(foundation, projector))


def adapter_file(projector: TrainedProjector) -> bytes:
    """Writes the adapter as an ``.npy`` file of one vector: the public tower knows the shapes.

    Args:
        projector: in float16.

    Returns:
        The file.
    """
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(ravel_pytree(projector.adapter)[0]))
    return buffer.getvalue()


def read_adapter(
    content: bytes, foundation: Foundation, adaptation: Adaptation, *, seed: int
) -> TrainedProjector:
    """Reads an `adapter_file`.

    Args:
        content: of the file.
        foundation: that the projector was trained on.
        adaptation: what was trained.
        seed: of the projector, for words that were drawn.

    Returns:
        The projector.

    Raises:
        ValueError: if the file is no vector of as many numbers as such an adapter has.
    """
    like = to_float16(initial_projector(foundation, adaptation, seed))
    vector = parse_npy(io.BytesIO(content), len(content), "content")
    flat, unravel = ravel_pytree(like.adapter)
    if vector.shape != flat.shape or vector.dtype.kind != "f":
        raise ValueError(
            f"content must hold the {flat.size} numbers of this adaptation, in one vector; got "
            f"{vector.dtype} of shape {vector.shape}. Give the foundation and ranks that it was "
            "trained with."
        )
    return TrainedProjector(unravel(jnp.asarray(vector)), like.words)
