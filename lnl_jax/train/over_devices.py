"""Over how many devices trainings are spread: said once, where they are started, not in each.

Where something is computed is no part of what is computed: a run goes on over another number of
devices, up to the order of sums.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from lnl_jax._host_arguments import check_integer
from lnl_jax.train.sharding import data_mesh, even_mesh, local_mesh
from lnl_jax.train.table_rows import SHARES

# With fewer examples on each, devices wait for each other longer than they compute.
FEWEST = 32


class DevicesError(ValueError):
    """Devices that are not there, or over which a batch does not split."""


class _Spread(NamedTuple):
    """What `over_devices` was given, and the lines that were said."""

    count: int | None
    say: Callable[[str], object]
    said: set[str]

    def tell(self, line: str) -> None:
        """Says a line unless it was said."""
        if line not in self.said:
            self.said.add(line)
            self.say(line)


_SPREAD: contextvars.ContextVar[_Spread | None] = contextvars.ContextVar("spread", default=None)


@contextlib.contextmanager
def over_devices(
    count: int | None = None, *, say: Callable[[str], object] = lambda line: None
) -> Iterator[None]:
    """Lets trainings that begin within it use several devices.

    A single training splits its batches, `batch_mesh`; many trainings at once, `in_lanes` and
    `in_chunks`, split their data sets, `lanes_mesh`. Without it each is on one device unless it is
    given a mesh.

    Args:
        count: how many, the first of `jax.devices()`, over which every batch has to split; None
            takes all where each gets at least 32 examples of a step, or else one. Of several
            processes all devices, or one in each.
        say: is told what is split over how many, and what is not and why, each line once.

    Yields:
        Nothing.

    Raises:
        DevicesError: if there are fewer devices; within it, if a batch does not split.

    Example:
        >>> with over_devices(1):
        ...     print(batch_mesh(50), lanes_mesh(5).size)
        None 1
    """
    if count is not None:
        there = jax.device_count()
        if not 1 <= count <= there:
            raise DevicesError(f"devices must be from 1 to the {there} that are here, got {count}.")
        if jax.process_count() > 1 and count not in (1, there):
            raise DevicesError(
                f"devices must be the {there} of all processes, or 1 in each, got {count}."
            )
    token = _SPREAD.set(_Spread(count, say, set()))
    try:
        yield
    finally:
        _SPREAD.reset(token)


def batch_mesh(
    batch_size: int, *, or_one: bool = False, local: bool = False, split_tables: bool = False
) -> Mesh | None:
    """The mesh over which a training splits batches of this size, for `data_parallel`.

    Args:
        batch_size: examples of a step.
        or_one: whether a batch that does not split over a given number of devices stays on one, as
            where a run has trainings with batches of several sizes.
        local: whether each of several processes takes whole batches, over its own devices.
        split_tables: whether tables of `with_spare_rows` are split too, for which devices have to
            divide 256.

    Returns:
        The mesh; None for one device, and outside `over_devices`.

    Raises:
        DevicesError: if the batch, or tables, do not split over the number of devices that was
            given.

    Example:
        >>> batch_mesh(64) is None
        True
        >>> with over_devices(1, say=print):
        ...     batch_mesh(64) is None
        True
    """
    check_integer("batch_size", batch_size)
    spread = _SPREAD.get()
    devices = _local_count(spread) if local else _count(spread)
    if devices == 1:
        return None
    each, rest = divmod(batch_size, devices)
    if rest and spread.count and not or_one:
        raise DevicesError(
            f"devices must divide the batch of {batch_size} examples (batch_size), got {devices}."
        )
    uneven = split_tables and SHARES % devices > 0
    if uneven and spread.count and not or_one:
        raise DevicesError(
            f"devices must divide {SHARES} where tables are split by their rows, got {devices}."
        )
    if rest or uneven or (each < FEWEST and not spread.count):
        why = "which do not divide it" if rest else f"where each would get {each} examples"
        why = f"which do not divide {SHARES}, as split tables need it" if uneven else why
        spread.tell(f"batches of {batch_size} on one of {devices} devices, {why}")
        return None
    spread.tell(f"batches of {batch_size} over {devices} devices, {each} examples on each")
    return local_mesh(devices) if local else data_mesh(devices)


def lanes_mesh(lanes: int, *, local: bool = True) -> Mesh:
    """The mesh over which trainings at once split their data sets: the most devices that divide.

    Args:
        lanes: how many data sets.
        local: whether each of several processes trains all of them; else they are split over as
            many devices of each, where they divide, and no process has all states by itself,
            `on_this_process`.

    Returns:
        The mesh, of one device outside `over_devices`. Its devices do not wait for each other, so
        that any number of examples is enough.

    Example:
        >>> lanes_mesh(5).size
        1
        >>> with over_devices():
        ...     lanes_mesh(1).size
        1
    """
    check_integer("lanes", lanes)
    spread = _SPREAD.get()
    devices = _local_count(spread)
    if spread is None or (devices == 1 and (local or jax.process_count() == 1)):
        return local_mesh(1)
    sets = "1 data set" if lanes == 1 else f"{lanes} data sets"
    of_all = 1 if local else jax.process_count()
    if lanes % of_all:
        of_all = 1
    size = max(size for size in range(1, devices + 1) if lanes % (size * of_all) == 0)
    spread.tell(
        f"{sets} at once over {size * of_all} of {devices * of_all} devices, "
        f"{lanes // (size * of_all)} on each"
    )
    return local_mesh(size) if of_all == 1 else even_mesh(size)


def mesh_at_hand() -> Mesh:
    """The mesh of all devices that may be used: for chunks, which are made to split over them.

    Returns:
        The mesh of as many local devices as `over_devices` has it; else of all of them.

    Example:
        >>> with over_devices(1):
        ...     mesh_at_hand().size
        1
    """
    spread = _SPREAD.get()
    if spread is None:
        return local_mesh()
    devices = _local_count(spread)
    if devices > 1:
        spread.tell(f"data sets in chunks over {devices} devices")
    return local_mesh(devices)


def devices_at_hand() -> list[jax.Device]:
    """Those of `mesh_at_hand`; nothing is said of them."""
    spread = _SPREAD.get()
    return jax.local_devices()[: None if spread is None else _local_count(spread)]


def _count(spread: _Spread | None) -> int:
    if spread is None:
        return 1
    return spread.count or jax.device_count()


def _local_count(spread: _Spread | None) -> int:
    return min(_count(spread), jax.local_device_count())
