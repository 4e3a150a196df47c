"""Over how many devices the batches of a study are split."""

from collections.abc import Generator

import jax
from jax.sharding import Mesh

from lnl_jax import train
from lnl_jax.runner.arguments import StudyError
from lnl_jax.runner.outputs import Note

# With fewer examples on each, devices wait for each other longer than they compute.
FEWEST = 32


def batch_mesh(devices: int | None, batch_size: int) -> Generator[Note, None, Mesh | None]:
    """The mesh over which batches are split, said in a line where it has several devices.

    Args:
        devices: how many; None takes all local ones where each gets at least 32 examples, or else
            one.
        batch_size: examples of a step.

    Yields:
        A note on it.

    Returns:
        The mesh; None for one device.

    Raises:
        StudyError: if there are fewer devices, or the batch does not split over them.

    Example:
        >>> list(batch_mesh(1, 50))
        []
    """
    there = jax.device_count()
    if devices is None:
        whole = batch_size % there == 0 and batch_size // there >= FEWEST
        devices = there if whole else 1
    if devices > there:
        raise StudyError(f"devices must be at most the {there} that are here, got {devices}.")
    if batch_size % devices:
        raise StudyError(
            f"devices must divide the batch of {batch_size} examples (batch_size), got {devices}."
        )
    if devices == 1:
        return None
    yield Note(f"batches over {devices} devices, {batch_size // devices} examples on each")
    return train.data_mesh(devices)
