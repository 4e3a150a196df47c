"""The states that a study yields as checkpoints: the newest ones on disk."""

import contextlib
import errno
import math
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from lnl_jax.runner.files import remove
from lnl_jax.runner.usage import UsageError
from lnl_jax.train import TrainState, checkpoint

# A save costs some 50 ms of processor time, as much as an epoch of a small study. States that come
# faster than this are kept in memory and saved when one is due or when the run stops.
SECONDS_BETWEEN_SAVES = 0.25
# Of the time of a run, what saving may take of it where nobody says how often.
SHARE_OF_SAVES = 0.02
# What a checkpoint takes besides its arrays, and more.
SPARE_BYTES = 1 << 20


class Every(NamedTuple):
    """How often states are saved.

    Attributes:
        seconds: since the last save; None saves as often as takes a fiftieth of the time.
        steps: of training since the last save, instead; a state without a `train.TrainState` counts
            as one.
    """

    seconds: float | None = None
    steps: int | None = None


class SavedStates:
    """A folder of checkpoints, made when the first one is saved."""

    def __init__(self, path: pathlib.Path, every: Every = Every()):  # noqa: B008
        self._path, self._every = path, every
        self._manager = self._pending = self._best = self._chosen = None
        self._last_save, self._last_step = -math.inf, None
        self._offers, self._took, self._best_score = 0, 0.0, -math.inf

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

    def offer(self, state: Any, metadata: dict[str, Any], score: float | None = None) -> None:
        """Saves the state with its metadata: now if a save is due, else unless another follows.

        One with a better score than all before is saved whatever follows.
        """
        self._offers += 1
        step = _steps_of(state) or self._offers
        due = self._is_due(step)
        # The study may donate or overwrite the arrays while they wait.
        self._pending = (state if due else _copy(state)), metadata, score
        if score is not None and score > self._best_score:
            self._best, self._best_score = self._pending, score
        if due:
            began = time.perf_counter()
            self._save_pending()
            self._last_save, self._last_step = time.perf_counter(), step
            self._took = self._last_save - began

    def _is_due(self, step: int) -> bool:
        if self._every.steps is not None:
            return self._last_step is None or step - self._last_step >= self._every.steps
        wanted = self._every.seconds
        if wanted is None:
            wanted = max(SECONDS_BETWEEN_SAVES, self._took / SHARE_OF_SAVES)
        return time.perf_counter() - self._last_save >= wanted

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
            self._manager = checkpoint.open_checkpoints(self._path, alone=True)
        return self._manager

    def _close_manager(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            with _full_disk_as_os_error():
                manager.close()

    def _save_pending(self) -> None:
        newest, best = self._pending, self._best
        self._pending = self._best = None
        waiting = [newest] if best is None or best is newest else [best, newest]
        for state, metadata, score in filter(None, waiting):
            with _full_disk_as_os_error():
                manager = self._open()
                _check_space(self._path, state)
                step = (manager.latest_step() or 0) + 1
                checkpoint.save(manager, step, state, metadata, score=score)


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


def _steps_of(state: Any) -> int | None:
    """How many steps its training has taken, where it has one."""
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, TrainState))
    steps = [node.step for node in nodes if isinstance(node, TrainState)]
    return max((int(np.max(jax.device_get(step))) for step in steps), default=None)


def _copy(state: Any) -> Any:
    return jax.tree.map(lambda x: x.copy() if isinstance(x, jax.Array | np.ndarray) else x, state)
