"""Projectors: a frozen foundation model with a low-rank adapter that learns teachers."""

import dataclasses
import functools
import io
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments.arguments import StudyError
from experiments.descent import descend, in_chunks
from experiments.foundation_models import Foundation
from lnl_jax import distill

PyTree = Any
CE_WEIGHT = 0.1


class Setting(NamedTuple):
    """A kind of projector.

    Attributes:
        rank: of the tower's adapter; 0 leaves the tower as it is.
        head_rank: of the change of the words; None for a change of full size.
        text: whether the head starts from the words of the foundation model, or from random ones.
        weak: whether the teachers are checkpoints of one run, or the last one alone.
    """

    rank: int
    head_rank: int | None
    text: bool = True
    weak: bool = True


class Projector(NamedTuple):
    """As it is stored.

    Attributes:
        adapter: of `distill.projectors.init_projector`, in float16.
        words: what the head started from, ``[D, K]``; public, or drawn from the seed.
    """

    adapter: PyTree
    words: jax.Array


MAIN = "LoRA, text, low-rank head"


def settings(rank: int, head_rank: int, *, ablation: bool) -> dict[str, Setting]:
    """What is trained, by name; the ablation adds what each choice is worth."""
    found = {"linear probe": Setting(0, None), MAIN: Setting(rank, head_rank)}
    if ablation:
        found |= {
            "linear probe, one teacher": Setting(0, None, weak=False),
            "LoRA, text, full head": Setting(rank, None),
            "LoRA, random full head": Setting(rank, None, text=False),
        }
    return found


def initial_projector(foundation: Foundation, setting: Setting, seed: int) -> Projector:
    """Zero-shot classification, in float32, unless the head is random."""
    key, draw = jax.random.split(jax.random.key(seed + 200))
    words = foundation.words
    if not setting.text:
        words = distill.projectors.unit_rows(jax.random.normal(draw, words.T.shape)).T
    ranks = {foundation.targets: setting.rank} if setting.rank else {}
    adapter = distill.projectors.init_projector(
        key, foundation.tower, words, ranks, head_rank=setting.head_rank, scale=foundation.scale
    )
    return Projector(adapter, words)


def check_ranks(foundation: Foundation, rank: int, head_rank: int) -> None:
    """Raises StudyError for factors that are wider than what they change.

    Args:
        foundation: its arrays, or their shapes.
        rank: of the tower's adapter.
        head_rank: of the head's.
    """
    factors = distill.projectors.lora_shapes(foundation.tower, {foundation.targets: 1})
    sides = max(math.prod(leaf.shape) for leaf in jax.tree.leaves(factors))
    for name, value, most in (
        ("rank", rank, sides),
        ("head_rank", head_rank, max(foundation.words.shape)),
    ):
        if value > most:
            raise StudyError(
                f"{name} must be at most {most}, the size of the matrix that it "
                f"changes; got {value}."
            )


def follow_teachers(logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """HeLlO's objective: the logits `targets`, and the `classes` with a small weight."""
    return distill.projectors.projector_loss(
        logits, batch["targets"], batch["classes"], ce_weight=CE_WEIGHT
    )


def train_projector(
    foundation: Foundation,
    setting: Setting,
    batches: Mapping[str, np.ndarray],
    *,
    seed: int,
    objective: Callable[[jax.Array, Mapping], jax.Array] = follow_teachers,
    learning_rate: float = 3e-3,
) -> Projector:
    """Fits an adapter to real images.

    Args:
        foundation: the frozen model.
        setting: what is trained.
        batches: `images`, ``[steps, B, H, W, C]``, and what the objective reads.
        seed: of the initialisation.
        objective: ``(logits [B, K], batch)`` to losses ``[B]``.
        learning_rate: the first.

    Returns:
        The projector, in float16.
    """
    start = initial_projector(foundation, setting, seed)
    constants = {"tower": foundation.tower, "words": start.words}
    if not setting.rank:
        # The tower stays: its features are computed once.
        batches = dict(batches) | {"images": _features(foundation, batches["images"])}
        constants["tower"] = {}
    (adapter, _), _ = descend(
        _loss(objective, foundation.encode if setting.rank else _unchanged),
        (start.adapter, {}),
        batches,
        learning_rate=learning_rate,
        weight_decay=0.0,
        constants=constants,
    )
    return to_float16(Projector(adapter, start.words))


@functools.lru_cache(maxsize=16)
def _loss(objective: Callable, encode: Callable) -> Callable:
    """For `descend`: one function for each objective, so that it is compiled once."""

    def loss(trained, fixed, batch, constants):
        logits = distill.projectors.project(
            encode,
            constants["tower"],
            constants["words"],
            trained,
            batch["images"],
        )
        return objective(logits, batch).mean(), fixed

    return loss


def _unchanged(params: PyTree, features: jax.Array) -> jax.Array:
    return features


def _features(foundation: Foundation, images: np.ndarray) -> np.ndarray:
    """Of all views, ``[steps, B, D]``."""
    flat = images.reshape(-1, *images.shape[2:])
    found = in_chunks(functools.partial(_encode, jax.device_put(foundation)), flat)
    return found.reshape(*images.shape[:2], -1)


@jax.jit
def _encode(foundation, images):
    return foundation.encode(foundation.tower, images)


def to_float16(projector: Projector) -> Projector:
    """The projector as it is stored."""
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), projector.adapter)
    return Projector(half, projector.words)


def merged_tower(foundation: Foundation, projector: Projector) -> PyTree:
    """Parameters of the adapted tower, on the device."""
    adapter = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), projector.adapter["encoder"])
    return _merge(foundation.tower, adapter) if adapter else jax.device_put(foundation.tower)


_merge = jax.jit(distill.projectors.merge_lora)


def label_dtype() -> Any:
    """In which a tower makes labels: bfloat16 where that is faster, float32 on CPUs."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


def projector_predict(
    foundation: Foundation, projector: Projector
) -> Callable[[np.ndarray], np.ndarray]:
    """Images to logits in float32, in chunks."""
    return functools.partial(in_chunks, projector_logits(foundation, projector, dtype=jnp.float32))


def projector_logits(
    foundation: Foundation, projector: Projector, *, dtype: Any
) -> Callable[[Any], jax.Array]:
    """Images to logits, which stay on the device.

    Args:
        foundation: the frozen model.
        projector: whose adapter is merged once, so that all projectors share one program.
        dtype: of the computation in the tower; the head's is float32.

    Returns:
        ``[B, H, W, C]`` to float32 ``[B, K]``.
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


@functools.partial(jax.jit, static_argnames="dtype")
def _project(foundation, adapter, images, *, dtype):
    encode = functools.partial(foundation.encode, dtype=dtype)
    return distill.projectors.project(encode, foundation.tower, foundation.words, adapter, images)


def adapter_file(projector: Projector) -> bytes:
    """The adapter as an ``.npy`` file of one vector: the public tower knows the shapes."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(ravel_pytree(projector.adapter)[0]))
    return buffer.getvalue()


def read_adapter(content: bytes, foundation: Foundation, setting: Setting, seed: int) -> Projector:
    """The projector of an `adapter_file`."""
    like = to_float16(initial_projector(foundation, setting, seed))
    _, unravel = ravel_pytree(like.adapter)
    vector = np.load(io.BytesIO(content), allow_pickle=False)
    return Projector(unravel(jnp.asarray(vector)), like.words)
