"""Soft-label projectors: a frozen tower, a low-rank adapter, and a head that begins as words."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lnl_jax.distill.lora import CONV1X1, LoraForm, init_lora, lora_shapes, merge_lora

PyTree = Any
# (params, images [B, H, W, C]) -> features [B, D]
Encode = Callable[[PyTree, Array], Array]

# What is adapted, as expressions for `lora_shapes`. Bottleneck convolutions without stem and
# shortcuts: with rank 8, and 64 or 128 in the head, these are the sizes that the paper prints.
RN50_TARGETS = r"layer\w*/.*conv[123]/kernel$"
VIT_TARGETS = r"(query|key|value|out|fc1|fc2)/kernel$"


def init_projector(
    key: Array,
    params: PyTree,
    words: Array,
    ranks: Mapping[str, int],
    *,
    head_rank: int | None,
    scale: float = 100.0,
    form: LoraForm = CONV1X1,
) -> PyTree:
    """The trainable part of a projector: at the start it is zero-shot classification.

    Args:
        key: of the random numbers.
        params: of the frozen image tower.
        words: embeddings of the classes' names, a column each, ``[D, K]``.
        ranks: which kernels of the tower get factors, as of `lora_shapes`; empty for none.
        head_rank: of the change of `words`; None for a change of full size.
        scale: of the cosines at the start, in CLIP the exponential of ``logit_scale``.
        form: of the factors of the tower.

    Returns:
        ``{"encoder": adapter, "head": {"a", "b"} or {"delta"}, "scale", "offset"}``.

    Raises:
        ValueError: if `words` is no matrix, or for `ranks` that fit no kernel.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025):
        the projector, its initialisation by text and the low-rank transfer.
    """
    if words.ndim != 2:
        raise ValueError(f"words must have the shape [D, K], got {words.shape}.")
    tower, head = jax.random.split(key)
    dim, classes = words.shape
    if head_rank is None:
        change = {"delta": jnp.zeros((dim, classes))}
    else:
        bound = dim**-0.5
        a = jax.random.uniform(head, (dim, head_rank), minval=-bound, maxval=bound)
        change = {"a": a, "b": jnp.zeros((head_rank, classes))}
    return {
        "encoder": init_lora(tower, params, ranks, form=form),
        "head": change,
        "scale": jnp.float32(scale),
        "offset": jnp.float32(0),
    }


def projector_shapes(
    params: PyTree, ranks: Mapping[str, int], *, dim: int, num_classes: int, head_rank: int | None
) -> PyTree:
    """Shapes of what `init_projector` makes, for counting: nothing is computed.

    Args:
        params: of the tower, as arrays or shapes (`jax.eval_shape`).
        ranks: as of `lora_shapes`.
        dim: D, of the features.
        num_classes: K.
        head_rank: of the change of the head; None for full size.

    Returns:
        The tree of `init_projector`, of `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: for `ranks` that fit no kernel.
    """
    shapes = {"delta": (dim, num_classes)}
    if head_rank is not None:
        shapes = {"a": (dim, head_rank), "b": (head_rank, num_classes)}
    head = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    number = jax.ShapeDtypeStruct((), jnp.float32)
    encoder = lora_shapes(params, ranks)
    return {"encoder": encoder, "head": head, "scale": number, "offset": number}


def project(
    encode: Encode,
    params: PyTree,
    words: Array,
    adapter: PyTree,
    images: Array,
    *,
    form: LoraForm = CONV1X1,
) -> Array:
    r"""Logits of a projector.

    .. math:: z = s\,\frac{e}{\lVert e \rVert} (W_0 + \Delta W) + o, \qquad
        e = E(x; \theta + \Delta\theta)

    Only `adapter` gets a gradient; tower and words are constants.

    Args:
        encode: the image tower, ``(params, images)`` to features.
        params: its frozen parameters.
        words: :math:`W_0`, ``[D, K]``.
        adapter: of `init_projector`.
        images: ``[B, H, W, C]``, normalised as the tower wants them.
        form: of the factors of the tower.

    Returns:
        ``[B, K]``, float32.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025).
        Scale, offset and the normalisation of the features are not printed there; with them, the
        start equals CLIP's zero-shot logits exactly.
    """
    frozen = jax.lax.stop_gradient(params)
    merged = merge_lora(frozen, adapter["encoder"], form=form) if adapter["encoder"] else frozen
    features = encode(merged, images).astype(jnp.float32)
    weights = jax.lax.stop_gradient(words) + _head_change(adapter["head"])
    return adapter["scale"] * (unit(features) @ weights) + adapter["offset"]


def unit(features: Array) -> Array:
    """Rows of length 1; a row of zeros stays one, with a finite gradient.

    Args:
        features: ``[..., D]``.

    Returns:
        The same shape.
    """
    squares = jnp.square(features).sum(-1, keepdims=True)
    positive = squares > 0
    return features * jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, squares, 1)), 0)


def weak_targets(logits: Array, *, weights: Array | None = None) -> Array:
    """Mean logits of several teachers, such as checkpoints of one training run.

    The squared error to the mean has, up to a constant, the value and gradient of the mean of the
    squared errors, so one target stands for all.

    Args:
        logits: of T teachers, ``[T, B, K]``.
        weights: of the teachers, ``[T]``, summing to 1; None for equal ones.

    Returns:
        ``[B, K]``.
    """
    return logits.mean(0) if weights is None else jnp.tensordot(weights, logits, 1)


def projector_loss(
    logits: Array, targets: Array, labels: Array, *, ce_weight: float = 0.1
) -> Array:
    r"""Squared error to the teachers' centred logits plus cross-entropy.

    .. math:: \ell = \frac1K \sum_k (\bar z_k - \bar t_k)^2 + \lambda\,\mathrm{CE}(z, y),
        \qquad \bar z = z - \tfrac1K \textstyle\sum_k z_k

    Centring takes away what the softmax does not see: cosines times 100 lie near 20, the logits of
    a classifier near 0.

    Args:
        logits: z, of the projector, ``[B, K]``.
        targets: t, of the teachers, ``[B, K]``.
        labels: integers, ``[B]``.
        ce_weight: :math:`\lambda`.

    Returns:
        A loss per example, ``[B]``.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025), the
        objective of the projector; centring is ours.
    """
    errors = jnp.square(centered(logits) - centered(targets)).mean(-1)
    return errors + ce_weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def centered(logits: Array) -> Array:
    """Logits less their mean over the classes; the softmax is the same.

    Args:
        logits: ``[..., K]``.

    Returns:
        The same shape.
    """
    return logits - logits.mean(-1, keepdims=True)


def _head_change(head: Mapping[str, Array]) -> Array:
    return head["delta"] if "delta" in head else head["a"] @ head["b"]
