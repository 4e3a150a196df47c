"""Soft-label projectors: a frozen tower, a low-rank adapter, and a head that begins as words."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import check_range, computation_dtype, in_range, read_classes
from lnl_jax._host_arguments import check_integer
from lnl_jax.distill._checks import (
    class_cross_entropy,
    log_probabilities,
    read_logits_and_targets,
    read_number,
)
from lnl_jax.distill.projectors._lora import CONV1X1, LoraForm, init_lora, lora_shapes, merge_lora
from lnl_jax.evaluation import unit_rows

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
        head_rank: of the change of `words`, at most the larger of D and K; None for a change of
            full size.
        scale: of the cosines at the start, above 0, in CLIP the exponential of ``logit_scale``.
        form: of the factors of the tower.

    Returns:
        ``{"encoder": adapter, "head": {"a", "b"} or {"delta"}, "scale", "offset"}``.

    Raises:
        ValueError: if `words` is no floating matrix, for `ranks` that fit no kernel, or a number
            out of range.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025):
        the projector, its initialisation by text and the low-rank transfer.
    """
    if words.ndim != 2 or not jnp.issubdtype(words.dtype, jnp.floating):
        raise ValueError(
            f"words must be floating of shape [D, K], got {words.dtype} of shape {words.shape}."
        )
    dim, classes = words.shape
    _check_head_rank(head_rank, dim, classes)
    check_range("scale", scale, above=0, below=jnp.inf)
    tower, head = jax.random.split(key)
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
        ValueError: for `ranks` that fit no kernel, or a number out of range.
    """
    check_integer("dim", dim)
    check_integer("num_classes", num_classes)
    _check_head_rank(head_rank, dim, num_classes)
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
        ``[B, K]``, float32 at least.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025).
        Scale, offset and the normalisation of the features are not printed there; with them, the
        start equals CLIP's zero-shot logits exactly.
    """
    frozen = jax.lax.stop_gradient(params)
    merged = merge_lora(frozen, adapter["encoder"], form=form) if adapter["encoder"] else frozen
    features = encode(merged, images)
    features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
    weights = jax.lax.stop_gradient(words) + _head_change(adapter["head"])
    return adapter["scale"] * (unit_rows(features) @ weights) + adapter["offset"]


def weak_targets(logits: Array, *, weights: Array | None = None) -> Array:
    """Mean logits of several teachers, such as checkpoints of one training run.

    The squared error to the mean has, up to a constant, the value and gradient of the mean of the
    squared errors, so one target stands for all.

    Args:
        logits: of T teachers, floating, ``[T, ..., K]``.
        weights: of the teachers, at least 0, ``[T]``, summing to 1; None for equal ones.

    Returns:
        ``[..., K]``, in the dtype of the logits.

    Raises:
        ValueError: if there is not one weight per teacher, or a weight is out of range.

    Example:
        >>> weak_targets(jnp.array([[[0.0, 4.0]], [[2.0, 0.0]]])).tolist()
        [[1.0, 2.0]]
    """
    logits = jnp.asarray(logits)
    if logits.ndim < 2 or not len(logits) or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"logits must be floating of shape [T, ..., K], got {logits.dtype} of shape "
            f"{logits.shape}."
        )
    values = logits.astype(computation_dtype(logits.dtype))
    if weights is None:
        return values.mean(0).astype(logits.dtype)
    if jnp.shape(weights) != logits.shape[:1]:
        raise ValueError(
            f"weights must have one entry per teacher, shape {logits.shape[:1]}, got "
            f"{jnp.shape(weights)}."
        )
    weights = in_range("weights", weights, values.dtype, at_least=0, below=jnp.inf)
    return jnp.tensordot(weights, values, 1).astype(logits.dtype)


def projector_loss(
    logits: Array, targets: Array, labels: Array, *, ce_weight: ArrayLike = 0.1
) -> Array:
    r"""Squared error to the teachers' centred logits plus cross-entropy.

    .. math:: \ell = \frac1K \sum_k (\bar z_k - \bar t_k)^2 + \lambda\,\mathrm{CE}(z, y),
        \qquad \bar z = z - \tfrac1K \textstyle\sum_k z_k

    Centring takes away what the softmax does not see: cosines times 100 lie near 20, the logits of
    a classifier near 0.

    Args:
        logits: z, of the projector, ``[..., K]``.
        targets: t, of the teachers, finite, ``[..., K]``; no gradient flows to them.
        labels: classes, integers, ``[...]``.
        ce_weight: :math:`\lambda`, at least 0, a scalar or one per example, ``[...]``.

    Returns:
        A loss per example, ``[...]``, in the dtype of `logits`; NaN where a label is outside
        ``[0, K)``.

    Raises:
        ValueError: if the arrays are not floating or of two shapes, the labels are not integers of
            the batch shape, or the weight is out of range.

    Example:
        >>> logits, targets = jnp.array([[1.0, 1.0]]), jnp.array([[7.0, 7.0]])
        >>> projector_loss(logits, targets, jnp.array([0]), ce_weight=1.0).tolist()
        [0.693]

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025), the
        objective of the projector; centring is ours.
    """
    logits, targets, dtype = read_logits_and_targets(logits, targets)
    labels = read_classes("labels", labels, logits.shape[:-1])
    ce_weight = read_number("ce_weight", ce_weight, logits, at_least=0)[..., 0]
    errors = jnp.square(centered(logits) - centered(targets)).mean(-1)
    entropy = class_cross_entropy(log_probabilities(logits), labels)
    return (errors + ce_weight * entropy).astype(dtype)


def centered(logits: Array) -> Array:
    """Logits less their mean over the classes; the softmax is the same.

    Args:
        logits: floating, finite, ``[..., K]``.

    Returns:
        The same shape and dtype.

    Example:
        >>> centered(jnp.array([1e8, 1e8 + 8])).tolist()
        [-4.0, 4.0]
    """
    values = logits.astype(computation_dtype(logits.dtype))
    # Exact for scores that are close, whatever their size.
    values = values - jax.lax.stop_gradient(values.max(-1, keepdims=True))
    return (values - values.mean(-1, keepdims=True)).astype(logits.dtype)


def _check_head_rank(head_rank: int | None, dim: int, classes: int) -> None:
    if head_rank is not None:
        check_integer("head_rank", head_rank, at_most=max(dim, classes))


def _head_change(head: Mapping[str, Array]) -> Array:
    return head["delta"] if "delta" in head else head["a"] @ head["b"]
