"""The states that a study yields as checkpoints: the newest ones on disk."""

import contextlib
import errno
import math
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from lnl_jax.runner.files import remove
from lnl_jax.runner.usage import UsageError
from lnl_jax.train import checkpoint

# A save costs some 50 ms of processor time, as much as an epoch of a small study. States that come
# faster than this are kept in memory and saved when one is due or when the run stops.
SECONDS_BETWEEN_SAVES = 0.25
# What a checkpoint takes besides its arrays, and more.
SPARE_BYTES = 1 << 20


class SavedStates:
    """A folder of checkpoints, made when the first one is saved."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._manager = self._pending = self._chosen = None
        self._last_save = -math.inf

    def choose(self, say: Callable[[str], None], is_usable: Callable[[dict], str]) -> dict | None:
        """Chooses the newest state that is whole and usable as the one to go on from.

        Args:
            say: is told which ones are passed over, and why, a line each.
            is_usable: says of what was kept beside a state why it is of no use; empty where it is.

        Returns:
            What was kept beside it; None where there is none.
        """
        if not self._path.exists():
            return None
        with contextlib.closing(checkpoint.look_through(self._open())) as all_found:
            for found in all_found:
                damage = found.damage or is_usable(found.metadata)
                if not damage:
                    self._chosen = found.step
                    return found.metadata
                say(f"checkpoint {self._path / str(found.step)} is passed over: {damage}")
        return None

    def restore(self, state: Any) -> Any:
        """The chosen state in the form of this one, or this one where there is none.

        Raises:
            UsageError: if it has another form.
        """
        if self._chosen is None:
            return state
        try:
            return checkpoint.restore(self._open(), self._chosen, state)
        except ValueError as error:
            words = "is not of this version of the experiment; --force starts over"
            raise UsageError(f"the checkpoint in {self._path} {words} ({error})") from error

    def offer(self, state: Any, metadata: dict[str, Any]) -> None:
        """Saves the state with its metadata: now if a save is due, else unless another follows."""
        due = time.perf_counter() - self._last_save >= SECONDS_BETWEEN_SAVES
        # The study may donate or overwrite the arrays while they wait.
        self._pending = (state if due else _copy(state)), metadata
        if due:
            self._save_pending()
            self._last_save = time.perf_counter()

    def drop(self) -> None:
        """Deletes all states."""
        self._close_manager()
        self._chosen = None
        remove(self._path)

    def close(self) -> None:
        """Saves the newest state that was offered and waits until it is on disk."""
        try:
            self._save_pending()
        finally:
            self._close_manager()

    def _open(self) -> Any:
        if self._manager is None:
            self._manager = checkpoint.open_checkpoints(self._path)
        return self._manager

    def _close_manager(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            with _full_disk_as_os_error():
                manager.close()

    def _save_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            with _full_disk_as_os_error():
                manager = self._open()
                _check_space(self._path, pending[0])
                checkpoint.save(manager, (manager.latest_step() or 0) + 1, *pending)


def _check_space(path: pathlib.Path, state: Any) -> None:
    """Raises OSError before a save that the disk cannot take.

    Where it is full in the middle of one, threads of TensorStore that nobody listens to any more
    write a hundred lines.
    """
    needed = sum(getattr(leaf, "nbytes", 8) for leaf in jax.tree.leaves(state))
    if needed + SPARE_BYTES > shutil.disk_usage(path).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextlib.contextmanager
def _full_disk_as_os_error() -> Iterator[None]:
    """TensorStore reports a full disk as a ValueError."""
    try:
        yield
    except ValueError as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _copy(state: Any) -> Any:
    return jax.tree.map(lambda x: x.copy() if isinstance(x, jax.Array | np.ndarray) else x, state)
