"""Data sets that are larger than the memory of the device: batches from threads on the host."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from lnl_jax._extras import require
from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.data.batches import take


def stream(
    dataset: Mapping, plan: Mapping, *, num_threads: int = 4, buffer_size: int = 16
) -> Iterator[dict]:
    """The batches of a plan in its order, made ahead of time by threads.

    They are those of `batches`, whatever the number of threads. To go on in the middle of an epoch,
    give the rest of its plan: ``{name: values[step:] for name, values in plan.items()}``.

    Args:
        dataset: what gives rows for an array of positions, such as arrays and memory maps; with
            leading dimension N, ``index`` among them.
        plan: an `epoch_plan`: ``position`` and ``mask``, ``[S, B]``.
        num_threads: how many batches are made at the same time; 0 makes each when asked for.
        buffer_size: how many batches are made ahead of the one in use.

    Yields:
        Dicts of arrays with leading dimension B, in the memory of the host, and ``mask``.

    Raises:
        ValueError: if `num_threads` is negative or `buffer_size` less than 1.

    Example:
        >>> import numpy as np
        >>> from lnl_jax.data import epoch_plan
        >>> rows = {"index": np.array([4, 8, 9])}
        >>> [batch["index"].tolist() for batch in stream(rows, epoch_plan(3, 2))]
        [[4, 8], [9, 4]]
    """
    check_integer("num_threads", num_threads, at_least=0)
    check_integer("buffer_size", buffer_size, at_least=1)
    require("grain")
    import grain

    def batch(step: int) -> dict:
        return take(dataset, {name: values[step] for name, values in plan.items()})

    steps = grain.MapDataset.range(len(plan["position"]))
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=buffer_size)
    return iter(steps.map(batch).to_iter_dataset(options))


def fits_on_device(
    dataset: Mapping, *, fraction: float = 0.5, device: jax.Device | None = None
) -> bool:
    """Whether a data set takes no more than a part of the free memory of a device.

    Args:
        dataset: arrays or memory maps.
        fraction: of the free memory that the data set may take, more than 0 and at most 1; the
            rest is for parameters and activations.
        device: None means the first one of this process.

    Returns:
        True where it fits, and where a device does not say how much memory it has, as CPUs do not.
        Of several processes, which all ask, each is told whether it fits in all of them.

    Raises:
        ValueError: if `fraction` is out of range.

    Example:
        >>> import numpy as np
        >>> fits_on_device({"index": np.arange(1000)})
        True
    """
    check_number("fraction", fraction, above=0, at_most=1)
    memory, fits = (device or jax.local_devices()[0]).memory_stats() or {}, True
    if "bytes_limit" in memory:
        free = memory["bytes_limit"] - memory.get("bytes_in_use", 0)
        fits = sum(values.nbytes for values in dataset.values()) <= fraction * free
    if jax.process_count() == 1:
        return fits
    return bool(multihost_utils.process_allgather(np.bool_(fits)).all())
