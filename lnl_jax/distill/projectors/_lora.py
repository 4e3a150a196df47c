"""Low-rank adapters: a pytree of their own beside the parameters of a frozen network."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer

PyTree = Any
# path of a kernel -> its two factors, {"a", "b"}
Adapter = dict[str, dict[str, Any]]


class LoraForm(NamedTuple):
    """How two factors stand for the change of a kernel.

    Attributes:
        shapes: ``(kernel shape, rank) -> (shape of a, shape of b, fan-in of a)``.
        delta: ``(a, b, kernel shape) -> change``, in the shape of the kernel.
    """

    shapes: Callable[[tuple[int, ...], int], tuple[tuple[int, ...], tuple[int, ...], int]]
    delta: Callable[[Array, Array, tuple[int, ...]], Array]


def _pointwise_shapes(shape: tuple[int, ...], rank: int):
    *inputs, outputs = shape
    return (*inputs, rank), (rank, outputs), math.prod(inputs)


def _pointwise_delta(a: Array, b: Array, shape: tuple[int, ...]) -> Array:
    return jnp.tensordot(a, b, 1)


def _blocked_shapes(shape: tuple[int, ...], rank: int):
    if len(shape) == 2:
        return _pointwise_shapes(shape, rank)
    size, columns, inputs, outputs = shape
    if size != columns:
        raise ValueError(
            f"form: LORALIB cuts its product into square windows, a kernel has the shape {shape}; "
            "use CONV1X1."
        )
    return (rank * size, inputs * size), (outputs * size, rank * size), inputs * size


def _blocked_delta(a: Array, b: Array, shape: tuple[int, ...]) -> Array:
    if len(shape) == 2:
        return _pointwise_delta(a, b, shape)
    size, _, inputs, outputs = shape
    return (b @ a).reshape(outputs, inputs, size, size).transpose(2, 3, 1, 0)


# A window to `rank` channels, then a 1x1 convolution: the form of peft, k k I r + r O parameters.
CONV1X1 = LoraForm(_pointwise_shapes, _pointwise_delta)
# One product of matrices of k times the rank, cut into windows: the form of loralib.
LORALIB = LoraForm(_blocked_shapes, _blocked_delta)


def lora_shapes(params: PyTree, ranks: Mapping[str, int], *, form: LoraForm = CONV1X1) -> Adapter:
    """Shapes of the adapter of some kernels; nothing is computed.

    Args:
        params: nested dicts of arrays or of shapes; kernels are dense ``[in, out]`` or of
            convolutions ``[k, k, in, out]``.
        ranks: regular expression, searched for in the paths joined by ``/``, to rank, at most the
            larger of fan-in and outputs; the first that is found counts.
        form: of the factors.

    Returns:
        A `jax.ShapeDtypeStruct` for ``a`` and ``b`` under the path of every chosen kernel.

    Raises:
        ValueError: if an expression finds nothing, a rank is out of range, or what is found is no
            kernel that the form can change.

    Example:
        >>> shapes = lora_shapes({"fc": {"kernel": jnp.zeros((6, 4))}}, {"fc/kernel$": 2})
        >>> shapes["fc/kernel"]["a"].shape, shapes["fc/kernel"]["b"].shape
        ((6, 2), (2, 4))

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), Eq. 3.
    """
    leaves = _by_path(params)
    for pattern, rank in ranks.items():
        if not any(re.search(pattern, path) for path in leaves):
            some = ", ".join(list(leaves)[:5])
            raise ValueError(f"ranks: {pattern!r} is found in no path; there are {some}, ...")
        check_integer(f"ranks[{pattern!r}]", rank)
    found = {}
    for path, leaf in leaves.items():
        rank = next((r for pattern, r in ranks.items() if re.search(pattern, path)), None)
        if rank is None:
            continue
        if len(leaf.shape) not in (2, 4):
            raise ValueError(
                f"ranks: {path} of shape {leaf.shape} is neither a dense kernel [in, out] nor one "
                "of a convolution [k, k, in, out]; narrow the expression."
            )
        longest = max(math.prod(leaf.shape[:-1]), leaf.shape[-1])
        check_integer(f"the rank of {path} of shape {leaf.shape}", rank, at_most=longest)
        a, b, _ = form.shapes(leaf.shape, rank)
        found[path] = {
            "a": jax.ShapeDtypeStruct(a, jnp.float32),
            "b": jax.ShapeDtypeStruct(b, jnp.float32),
        }
    return found


def init_lora(
    key: Array, params: PyTree, ranks: Mapping[str, int], *, form: LoraForm = CONV1X1
) -> Adapter:
    r"""A new adapter, which changes nothing yet.

    ``a`` is uniform on :math:`\pm 1 / \sqrt{\text{fan-in}}`, ``b`` is zero.

    Args:
        key: of the random numbers.
        params: nested dicts of arrays.
        ranks: regular expression to rank, as of `lora_shapes`.
        form: of the factors.

    Returns:
        ``{path: {"a", "b"}}``, float32.

    Raises:
        ValueError: as of `lora_shapes`.

    Example:
        >>> adapter = init_lora(jax.random.key(0), {"kernel": jnp.ones((6, 4))}, {"kernel": 2})
        >>> bool((merge_lora({"kernel": jnp.ones((6, 4))}, adapter)["kernel"] == 1).all())
        True

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), section 4.1;
        the distribution of loralib's code.
    """
    shapes, leaves = lora_shapes(params, ranks, form=form), _by_path(params)
    keys = jax.random.split(key, max(len(shapes), 1))
    adapter = {}
    for one, (path, factors) in zip(keys, shapes.items(), strict=False):
        # The rank enters the fan-in of neither form.
        *_, fan_in = form.shapes(leaves[path].shape, 1)
        bound = fan_in**-0.5
        a = jax.random.uniform(one, factors["a"].shape, minval=-bound, maxval=bound)
        adapter[path] = {"a": a, "b": jnp.zeros(factors["b"].shape)}
    return adapter


def merge_lora(
    params: PyTree, adapter: Adapter, *, scale: float = 1.0, form: LoraForm = CONV1X1
) -> PyTree:
    r"""The parameters with the adapter added, :math:`W + s\,\Delta(a, b)`.

    Inside a loss, the gradient with respect to `adapter` is that of the small factors; merge once
    for inference.

    Args:
        params: nested dicts of arrays.
        adapter: of `init_lora`.
        scale: s, which is alpha / rank in the usual terms; any finite number.
        form: of the factors, the one it was made with.

    Returns:
        The tree of `params`, dtypes kept; what has no factors is the same array.

    Raises:
        ValueError: if a path of the adapter is not among the parameters, a factor is missing, or
            the factors fit neither each other nor the kernel.
    """
    check_scale(scale)
    unknown = sorted(set(adapter) - set(_by_path(params)))
    if unknown:
        raise ValueError(f"adapter: {', '.join(unknown)} are no parameters of this network.")

    def merged(path, leaf):
        factors = adapter.get(_joined(path))
        if factors is None:
            return leaf
        change = change_of(form, _joined(path), factors, leaf.shape)
        return (leaf + scale * change).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(merged, params)


def count_parameters(tree: PyTree) -> int:
    """The number of entries of all arrays.

    Args:
        tree: arrays, or their shapes as of `lora_shapes` and `jax.eval_shape`.

    Returns:
        The number.

    Example:
        >>> count_parameters({"a": jnp.zeros((2, 3)), "b": jax.ShapeDtypeStruct((), jnp.int32)})
        7
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def change_of(
    form: LoraForm, path: str, factors: Mapping[str, Array], shape: tuple[int, ...]
) -> Array:
    """The change that two factors stand for.

    Raises:
        ValueError: if a factor is missing, or they fit neither each other nor the kernel.
    """
    if not isinstance(factors, Mapping) or set(factors) != {"a", "b"}:
        given = sorted(factors) if isinstance(factors, Mapping) else type(factors).__name__
        raise ValueError(f"adapter: {path} must have the two factors a and b, got {given}.")
    a, b = factors["a"], factors["b"]
    try:
        change = form.delta(a, b, shape)
    except (TypeError, ValueError):
        change = None
    if change is None or change.shape != shape:
        made = "make no change" if change is None else f"make a change of shape {change.shape}"
        raise ValueError(
            f"adapter: the factors of {path}, of shapes {jnp.shape(a)} and {jnp.shape(b)}, {made} "
            f"for a kernel of shape {shape}; they must have one rank and the form they were made "
            "with."
        )
    return change


def check_scale(scale: Any) -> None:
    """Raises ValueError for a number that is not finite."""
    if not isinstance(scale, jax.Array):
        check_range("scale", scale, above=-math.inf, below=math.inf)


def _joined(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _by_path(params: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {_joined(path): leaf for path, leaf in leaves}
