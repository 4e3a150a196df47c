"""The dtype in which a whole network computes."""

import dataclasses
from typing import Any

from flax import linen as nn


def in_dtype(module: nn.Module, dtype: Any) -> nn.Module:
    """A module that computes in a dtype, with all modules that it is made of.

    Parameters, batch statistics and what it returns stay float32: every model here has them so.
    Accelerators are made for products in bfloat16, whose factors take half the memory of float32.

    Args:
        module: of this package, or any whose `dtype` says in what it computes.
        dtype: such as ``jnp.bfloat16``.

    Returns:
        The module; where one instance stood twice in it, one stands twice again.

    Raises:
        ValueError: if neither the module nor one that it is made of has a `dtype`.

    Example:
        >>> import jax.numpy as jnp
        >>> from lnl_jax.models import MLP, TwoTower
        >>> two = in_dtype(TwoTower(MLP(3), MLP(3)), jnp.bfloat16)
        >>> two.first.dtype, two.second.dtype
        (<class 'jax.numpy.bfloat16'>, <class 'jax.numpy.bfloat16'>)
    """
    found = _cloned(module, dtype, {})
    if found is module:
        raise ValueError(
            f"module must have a field dtype, or be made of modules that do; a "
            f"{type(module).__name__} does not compute in a dtype of one's choice."
        )
    return found


def _cloned(module: nn.Module, dtype: Any, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) not in done:
        names = [field.name for field in dataclasses.fields(module) if field.name != "parent"]
        values = {name: getattr(module, name) for name in names}
        changed = {
            name: _cloned(value, dtype, done)
            for name, value in values.items()
            if isinstance(value, nn.Module)
        }
        changed = {name: value for name, value in changed.items() if value is not values[name]}
        if "dtype" in values:
            changed["dtype"] = dtype
        done[id(module)] = module.clone(**changed) if changed else module
    return done[id(module)]
