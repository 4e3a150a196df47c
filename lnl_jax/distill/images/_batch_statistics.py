"""What a teacher's batch normalisations saw in training, and what they see of other images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax.models._batch_norm import BatchNorm

# Mean and biased variance of a normalisation's inputs, [C] each.
Moments = tuple[Array, Array]


def batch_norm_inputs(
    model: nn.Module, variables: Mapping[str, Any], images: Array
) -> tuple[Array, dict[str, Array]]:
    """Scores of a network, and what goes into each of its batch normalisations on the way.

    The network evaluates: it normalises by its running statistics, as the teacher of SRe2L does.

    Args:
        model: a flax network, called as ``model.apply(variables, images)``, whose normalisations
            are those of `lnl_jax.models` or `flax.linen.BatchNorm`.
        variables: ``params`` and ``batch_stats``.
        images: ``[B, H, W, C]``, as the network takes them.

    Returns:
        The scores, and by the path of each normalisation, joined by ``/`` and in the order of the
        calls, its inputs, ``[B, ..., C]``.

    Raises:
        ValueError: if the network has no batch normalisation.

    Example:
        >>> import jax
        >>> from lnl_jax import models
        >>> model, images = models.resnet8(3, width=4), jnp.zeros((2, 8, 8, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> compiled = jax.jit(batch_norm_inputs, static_argnums=0)
        >>> scores, inputs = compiled(model, variables, images)
        >>> [(path, value.shape) for path, value in inputs.items()][:2]
        [('BatchNorm_0', (2, 8, 8, 4)), ('BatchNorm_1', (2, 8, 8, 4))]
    """
    inputs = {}

    def seen(call, arguments, keywords, context):
        module = context.module
        if isinstance(module, BatchNorm | nn.BatchNorm) and context.method_name == "__call__":
            inputs["/".join(module.path)] = arguments[0]
        return call(*arguments, **keywords)

    with nn.intercept_methods(seen):
        scores = model.apply(variables, images)
    if not inputs:
        raise ValueError(
            f"model must have batch normalisations, {type(model).__name__} has none: take another "
            "teacher, such as lnl_jax.models.resnet18."
        )
    return scores, inputs


def batch_norm_statistics(
    model: nn.Module, variables: Mapping[str, Any], images: Array
) -> tuple[Array, list[Moments], list[Moments]]:
    """Scores of a network, the statistics of a batch at its normalisations, and its running ones.

    What the objective of `recover` needs of a teacher: its cross-entropy, and the two arguments of
    `batch_norm_gap`. Differentiable in the images.

    Args:
        model: as of `batch_norm_inputs`.
        variables: ``params`` and ``batch_stats``.
        images: ``[B, H, W, C]``, as the network takes them.

    Returns:
        The scores; mean and biased variance of the batch at each normalisation, in float32; the
        running mean and variance of each, in the same order.

    Raises:
        ValueError: if the network has no batch normalisation.

    References:
        Yin et al., "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
        Perspective" (SRe2L, NeurIPS 2023), section 3.2.
    """
    scores, inputs = batch_norm_inputs(model, variables, images)
    found, wanted = [], []
    for path, values in inputs.items():
        running = variables["batch_stats"]
        for name in path.split("/"):
            running = running[name]
        values = values.astype(jnp.float32)
        axes = tuple(range(values.ndim - 1))
        found.append((values.mean(axes), values.var(axes)))
        wanted.append((running["mean"], running["var"]))
    return scores, found, wanted


def batch_norm_gap(
    found: Sequence[Moments],
    wanted: Sequence[Moments],
    *,
    first_weight: float = 10.0,
) -> Array:
    r"""How far the statistics of a batch are from those of the real data.

    .. math:: \sum_l w_l \big( \lVert \mu_l - \hat\mu_l \rVert_2 +
        \lVert \sigma^2_l - \hat\sigma^2_l \rVert_2 \big)

    Norms, not squares, of what goes into each normalisation; at a perfect fit, their kink, the
    gradient is 0.

    Args:
        found: mean and biased variance of the batch at every normalisation, ``[C]`` each, as of
            `batch_norm_statistics`.
        wanted: the running ones of the teacher; those of one class in LPLD.
        first_weight: of the first, at least 0; the others have 1.

    Returns:
        The gap, ``[]``.

    Raises:
        ValueError: if there are no statistics, they do not fit each other, or the weight is out of
            range.

    Example:
        >>> found = [(jnp.array([3.0, 4.0]), jnp.ones(2))]
        >>> float(batch_norm_gap(found, [(jnp.zeros(2), jnp.ones(2))], first_weight=2.0))
        10.0

    References:
        Yin et al., "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
        Perspective" (SRe2L, NeurIPS 2023), Eq. 9, with the weights of its code.
    """
    check_range("first_weight", first_weight, at_least=0, below=math.inf)
    shapes = [[tuple(map(jnp.shape, moments)) for moments in both] for both in (found, wanted)]
    if not found or shapes[0] != shapes[1]:
        raise ValueError(
            "found and wanted must hold mean and variance of the same normalisations, one at "
            f"least; got the shapes {shapes[0]} and {shapes[1]}."
        )
    gaps = [
        _norm(mean - real_mean) + _norm(var - real_var)
        for (mean, var), (real_mean, real_var) in zip(found, wanted, strict=True)
    ]
    return sum(gaps[1:], first_weight * gaps[0])


def _norm(values: Array) -> Array:
    squares = jnp.square(values).sum()
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
