"""How much memory a compiled program takes, how much a device has, and how many runs fit."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lnl_jax._host_arguments import check_integer
from lnl_jax.train.chunks import chunk_size
from lnl_jax.train.lockstep import Trainer
from lnl_jax.train.lockstep_checks import check_runs

PyTree = Any
# Of the memory that is free: what is on the device besides, such as the programs, needs some.
SHARE = 0.8


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


def data_sets_that_fit(
    trainer: Trainer, settings: PyTree, data_sets: Mapping[str, PyTree], batch_size: int
) -> int | None:
    """A chunk for `in_chunks` that fills the devices: the step of one data set is compiled for it.

    Args:
        trainer: what a run does.
        settings: as of `in_lanes`, all of which are trained on each data set.
        data_sets: as of `in_lanes`.
        batch_size: B.

    Returns:
        How many data sets are trained on at once, over all local devices; None where the devices do
        not tell their memory, as CPUs, on which runs at once are a matter of the cache.

    Raises:
        ValueError: if there is nothing to train, or not even one data set per device fits.
    """
    check_integer("batch_size", batch_size)
    count, _ = check_runs(settings, data_sets)
    free = [free_bytes(device) for device in jax.local_devices()]
    if None in free:
        return None
    settings = jax.tree.map(_shape, settings)
    one = jax.tree.map(lambda values: _shape(values, 1), dict(data_sets))
    batch = jax.tree.map(
        lambda values: jax.ShapeDtypeStruct((batch_size, *values.shape[1:]), values.dtype),
        dict(one["train"]),
    )
    batch["mask"] = jax.ShapeDtypeStruct((batch_size,), bool)
    states = jax.eval_shape(jax.vmap(trainer.start, (0, None)), settings, one)

    def step(settings, data_set, states, batch):
        return jax.vmap(trainer.step, (0, None, 0, None))(settings, data_set, states, batch)[0]

    each = program_bytes(step, settings, one, states, batch, donate_argnums=2)
    if each is None:
        return None
    memory = SHARE * min(free) * len(free)
    return chunk_size(count, each, memory=memory, devices=len(free))


def _shape(values: Any, axes: int = 0) -> jax.ShapeDtypeStruct:
    """That of an array without its leading axes."""
    return jax.ShapeDtypeStruct(np.shape(values)[axes:], jax.numpy.result_type(values))
