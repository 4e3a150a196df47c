"""Checkpoints of any pytree of arrays: save in the background, restore bitwise, survive a kill.

A pytree is stored as a flat dict from leaf path to array, so what Orbax cannot express (named
tuples, static fields, empty tuples, keys, arrays without elements) comes from the `like` of the
restore. Beside the arrays stand their digests: one whose bytes have changed is found, named, and an
older one takes its place.
"""

from __future__ import annotations

import gc
import json as json_lib
import math
import pathlib
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from lnl_jax._extras import require
from lnl_jax._host_arguments import check_integer
from lnl_jax.train.checkpoint_leaves import (
    as_json,
    blank,
    check_same,
    describe_stored,
    described,
    in_the_form_of,
    named_leaves,
    stored,
    target,
    without_elements,
)
from lnl_jax.train.digests import damage_of, digests, json_digest
from lnl_jax.train.failed_restores import without_leftovers

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

PyTree = Any


class Found(NamedTuple):
    """A checkpoint in its folder.

    Attributes:
      step: its number.
      metadata: what `save` was given; None where it is damaged.
      damage: what is wrong with it, in a line; empty where nothing is.
    """

    step: int
    metadata: dict | None
    damage: str


def open_checkpoints(
    directory: str | pathlib.Path, *, keep: int = 2, alone: bool = False
) -> CheckpointManager:
    """Opens a folder of checkpoints, creating it where needed.

    Leave it with `manager.close()`, which waits for the save in progress.

    Args:
      directory: the folder.
      keep: how many of the newest checkpoints stay on disk, at least 1; with 1, nothing is left
        when that one is damaged. The one with the largest score stays beside them.
      alone: of several processes, the first one alone saves and restores, arrays that it has whole
        (`on_this_process`); else all of them do, together.

    Returns:
      An Orbax `CheckpointManager`.

    Raises:
      ValueError: if `keep` is no such number, or `directory` is a file.
    """
    check_integer("keep", keep)
    if pathlib.Path(directory).is_file():
        raise ValueError(f"directory must be a folder, {directory} is a file.")
    require("orbax")
    import orbax.checkpoint as ocp

    path = pathlib.Path(directory).absolute()
    of_one = {}
    if alone and jax.process_count() > 1:
        path.mkdir(parents=True, exist_ok=True)
        of_one["create"] = False
        of_one["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
            active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
        )
    options = ocp.CheckpointManagerOptions(
        **of_one,
        preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(
            [ocp.checkpoint_managers.LatestN(keep), _Best(path)]
        ),
        cleanup_tmp_directories=True,  # what a killed save left behind
        enable_background_delete=True,
        save_root_metadata=False,
        # One rename makes the checkpoint visible, so a kill leaves the whole of it or nothing.
        atomicity_options=ocp.options.AtomicityOptions(
            mode=ocp.options.AtomicityMode.ATOMIC_RENAME
        ),
    )
    # Named handlers let a manager read what another process wrote before it saves anything itself.
    handlers = {"state": ocp.StandardCheckpointHandler(), "metadata": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(path, options=options, item_handlers=handlers)


def save(
    manager: CheckpointManager,
    step: int,
    state: PyTree,
    metadata: dict,
    *,
    score: float | None = None,
) -> None:
    """Saves a state in the background; the caller may donate or overwrite its arrays at once.

    An error of the previous background save is raised here, or by `manager.wait_until_finished()`.

    Args:
      manager: from `open_checkpoints`.
      step: an integer from 0, larger than every step saved before.
      state: a pytree whose leaves are arrays, typed PRNG keys or Python numbers.
      metadata: a dict of JSON values, kept with the state; numbers and arrays of NumPy and JAX
        become numbers and lists, tuples become lists.
      score: how good the state is, such as an accuracy on validation data; the best one stays.

    Raises:
      ValueError: if a leaf or a value of the metadata is none of these, or the step is no integer
        or not larger than the last one.
    """
    require("orbax")
    import orbax.checkpoint as ocp

    step = step.item() if isinstance(step, jax.Array) and not step.ndim else step
    check_integer("step", step, at_least=0)
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata must be a dict, got a {type(metadata).__name__}.")
    # Checked here: what JSON cannot hold would be found in the background, after the return.
    metadata = as_json("metadata", metadata)
    latest = manager.latest_step()
    if latest is not None and step <= latest:
        raise ValueError(f"step {step} is not after the last saved step {latest}.")
    leaves = named_leaves(state)
    arrays = stored(leaves)
    json = {"leaves": described(state, leaves), "user": metadata, "digests": digests(arrays)}
    json["stored"] = {name: describe_stored(name, leaf) for name, leaf in arrays.items()}
    json["score"] = None if score is None else float(score)
    manager.save(
        int(step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(arrays),
            metadata=ocp.args.JsonSave(json | {"digest": json_digest(json)}),
        ),
        force=True,
    )


def look_through(manager: CheckpointManager) -> Iterator[Found]:
    """Reads the checkpoints of a folder, the newest first, and compares their digests.

    Args:
      manager: from `open_checkpoints`.

    Yields:
      A `Found` for each, damaged or not.
    """
    manager.wait_until_finished()
    for step in sorted(manager.all_steps(), reverse=True):
        json, damage = _json_or_damage(manager, step)
        if not damage:
            # As arrays of the host: where they were need not be any more.
            blanks = {name: blank(kind) for name, kind in json["stored"].items()}
            damage = _read_state(manager, step, blanks, json)[1]
        yield Found(step, None if damage else json["user"], damage)


def latest_metadata(manager: CheckpointManager) -> dict | None:
    """The metadata of the newest checkpoint that is whole.

    Args:
      manager: from `open_checkpoints`.

    Returns:
      What `save` was given, or None where nothing was saved.

    Raises:
      ValueError: if something was, and none of it is whole.
    """
    found = _newest_whole(manager)
    return None if found is None else found.metadata


def best_step(manager: CheckpointManager) -> int | None:
    """The step of the checkpoint with the largest score.

    Args:
      manager: from `open_checkpoints`.

    Returns:
      Its number; None where none has a score.
    """
    manager.wait_until_finished()
    return _best(pathlib.Path(manager.directory), manager.all_steps())


def restore(manager: CheckpointManager, step: int, like: PyTree) -> PyTree:
    """Restores one checkpoint in the form of `like`.

    Args:
      manager: from `open_checkpoints`.
      step: its number.
      like: as of `restore_latest`.

    Returns:
      The state, bitwise the saved one.

    Raises:
      ValueError: if there is no such checkpoint, if it is damaged, or if the saved leaves are not
        those of `like`.
    """
    json, damage = _json_or_damage(manager, step)
    if not damage:
        leaves = named_leaves(like)
        check_same(json["leaves"], described(like, leaves), manager.directory)
        targets = {name: target(leaf) for name, leaf in stored(leaves).items()}
        restored, damage = _read_state(manager, step, targets, json)
    if damage:
        raise ValueError(f"checkpoint {_folder(manager, step)} cannot be used: {damage}.")
    values = [
        in_the_form_of(leaf, restored[name]) if name in restored else without_elements(leaf)
        for name, leaf in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), values)


def restore_latest(manager: CheckpointManager, like: PyTree) -> tuple[int, PyTree, dict] | None:
    """Restores the newest checkpoint that is whole in the form of `like`.

    One that is damaged or half-written is named in a warning, and the one before it is taken.

    Args:
      manager: from `open_checkpoints`.
      like: a pytree of the structure, shapes and dtypes of the saved one: the freshly initialised
        state, or the `jax.ShapeDtypeStruct` of each leaf. Its shardings decide where the arrays go;
        where it has none, they go back where they were.

    Returns:
      The step, the state (bitwise the saved one) and the metadata; None where nothing was saved.

    Raises:
      ValueError: if the saved leaves are not those of `like`, or none of the checkpoints is whole.
    """
    found = _newest_whole(manager)
    return None if found is None else (found.step, restore(manager, found.step, like), found[1])


def _newest_whole(manager: CheckpointManager) -> Found | None:
    found = None
    for found in look_through(manager):
        if not found.damage:
            return found
        folder = _folder(manager, found.step)
        warnings.warn(
            f"checkpoint {folder} is skipped for the one before it: {found.damage}", stacklevel=3
        )
    if found is not None:
        raise ValueError(
            f"directory {manager.directory} holds no checkpoint that is whole; delete it to start "
            "over."
        )
    return None


def _folder(manager: CheckpointManager, step: int) -> pathlib.Path:
    return pathlib.Path(manager.directory) / str(step)


def _json_or_damage(manager: CheckpointManager, step: int) -> tuple[dict, str]:
    """What stands beside a state, and what is wrong with it."""
    require("orbax")
    import orbax.checkpoint as ocp

    try:
        args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        json = dict(manager.restore(step, args=args)["metadata"])
        if json.pop("digest", None) != json_digest(json):
            return {}, "its metadata are not as they were written"
    # Orbax, TensorStore and JSON have errors of their own, and whatever their parts raise.
    except Exception as error:
        return {}, f"its metadata cannot be read ({_in_a_line(error)})"
    return json, ""


def _read_state(
    manager: CheckpointManager, step: int, targets: dict[str, Any], json: dict
) -> tuple[dict[str, Any], str]:
    """The arrays of a checkpoint by name, and what is wrong with them."""
    require("orbax")
    import orbax.checkpoint as ocp

    hook = sys.unraisablehook
    sys.unraisablehook = without_leftovers(hook)
    try:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(targets))
        restored = dict(manager.restore(step, args=args)["state"])
    except Exception as error:
        text = _in_a_line(error)
    else:
        sys.unraisablehook = hook
        return restored, damage_of(restored, json["digests"])
    # The error held what the failed restore left half-done.
    gc.collect()
    return {}, f"its arrays cannot be read ({text})"


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}{'...' * (len(text) > 120)}"


class _Best:
    """Orbax's policy of keeping the checkpoint with the largest score."""

    def __init__(self, directory: pathlib.Path):
        self._directory = directory

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = _best(self._directory, steps)
        return [step == best for step in steps]


def _best(directory: pathlib.Path, steps: Any) -> int | None:
    scores = {step: _score(directory / str(step)) for step in steps}
    scores = {step: score for step, score in scores.items() if score is not None}
    return max(scores, key=lambda step: (scores[step], step), default=None)


def _score(folder: pathlib.Path) -> float | None:
    """None of a checkpoint without one, that is being written, or that is damaged."""
    try:
        score = json_lib.loads((folder / "metadata/metadata").read_bytes())["score"]
        return float(score) if math.isfinite(score) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
