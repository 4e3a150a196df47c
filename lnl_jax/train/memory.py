"""How much memory a compiled program takes, and how much a device has."""

from collections.abc import Callable
from typing import Any

import jax


def program_bytes(function: Callable, *args: Any, donate_argnums: Any = ()) -> int | None:
    """Compiles a function ahead, and says how much memory a call takes on the device.

    Args:
        function: any JAX function, compiled or not.
        *args: its arguments, as arrays or as `jax.ShapeDtypeStruct`; none is computed with.
        donate_argnums: as of `jax.jit`, where the function is not compiled yet.

    Returns:
        Bytes of arguments, results and what is held in between, by the compiler's own count; None
        where it does not tell.

    Example:
        >>> import jax.numpy as jnp
        >>> program_bytes(lambda x: x + 1, jax.ShapeDtypeStruct((250,), jnp.float32))
        2000
    """
    compiled = function
    if not hasattr(function, "lower"):
        compiled = jax.jit(function, donate_argnums=donate_argnums)
    found = compiled.lower(*args).compile().memory_analysis()
    if found is None:
        return None
    both = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return both + found.temp_size_in_bytes


def device_bytes(device: jax.Device | None = None) -> int | None:
    """How much memory a device has for arrays, in use or not.

    Args:
        device: None takes the first one of this process.

    Returns:
        Bytes; None where the device does not tell, as CPUs.
    """
    device = jax.local_devices()[0] if device is None else device
    return (device.memory_stats() or {}).get("bytes_limit")


def free_bytes(device: jax.Device | None = None) -> int | None:
    """How much memory of a device is free.

    Args:
        device: None takes the first one of this process.

    Returns:
        Bytes; None where the device does not tell, as CPUs.
    """
    device = jax.local_devices()[0] if device is None else device
    limit = device_bytes(device)
    return None if limit is None else limit - device.memory_stats().get("bytes_in_use", 0)
