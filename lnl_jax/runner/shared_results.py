"""The results folder of a run of several processes: the first one has it, and tells the others."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import train
from lnl_jax.runner import hosts
from lnl_jax.runner.files import from_json, to_json
from lnl_jax.runner.interrupts import stoppable
from lnl_jax.runner.outputs import Checkpoint, Kept, Output, Resume, Row, Stage
from lnl_jax.runner.results import Results, open_results, write_each
from lnl_jax.train.sharding import placed

PyTree = Any


@contextlib.contextmanager
def open_shared_results(
    path: pathlib.Path, config: dict[str, Any], **options: Any
) -> Iterator["Results | SharedResults"]:
    """As `open_results`, in each of the processes of a run."""
    if not hosts.are_several():
        with open_results(path, config, **options) as opened:
            yield opened
        return
    same = {key: config[key] for key in ("experiment", "arguments", "data")}
    for what in ("experiment", "arguments", "data"):
        hosts.check_same(f"other {what}", json.dumps(to_json(same[what]), sort_keys=True))
    with contextlib.ExitStack() as open_files:
        opened = []

        def open_here() -> bytes:
            opened.append(open_files.enter_context(open_results(path, config, **options)))
            return _bytes(opened[0].summary)

        if not hosts.is_first():
            open_files.enter_context(stoppable())
        summary = _value(hosts.from_first(open_here))
        yield SharedResults(path, opened[0] if opened else None, summary)


class SharedResults:
    """A results folder as one of the processes has it; see `Results`.

    What is asked of it, all processes ask in the same order.

    Attributes:
        path: the folder, which the first process has.
        summary: what `summary.json` holds; None while the run has not finished.
    """

    def __init__(self, path: pathlib.Path, opened: Results | None, summary: dict | None):
        self.path, self.summary = path, summary
        self._opened = opened

    def start(self, *, resumable: bool, say: Callable[[str], None] = print) -> Resume:
        """See `Results.start`."""
        return self._resume(lambda: self._opened.start(resumable=resumable, say=say))

    def _resume(self, find: Callable[[], Resume]) -> Resume:
        """What the first process finds, for all of them."""
        found: list[Resume] = []

        def rows() -> bytes:
            found.append(find())
            return _bytes(list(found[0].rows))

        return Resume(_value(hosts.from_first(rows)), lambda like: self._restored(like, found))

    def _restored(self, like: PyTree, found: list[Resume]) -> PyTree:
        here = train.on_this_process(like)

        def read() -> bytes:
            restored = found[0].restore(here)
            return b"" if restored is here else b"." + _packed(restored)

        data = hosts.from_first(read)
        return _in_the_form_of(like, data[1:]) if data else like

    def write_all(
        self,
        outputs: Iterator[Output],
        show: Callable[[Row], None],
        say: Callable[[str], None] = print,
    ) -> None:
        """See `Results.write_all`."""
        write_each(outputs, self.write, show, say)

    def write(self, output: Output) -> Row | Kept | Resume | None:
        """See `Results.write`: a row, that is shown, is an answer in the first process alone."""
        match output:
            case Stage():
                return self._ask(output)
            case Checkpoint(state, score):
                # What is split over processes they put together, all of them.
                output = Checkpoint(train.on_this_process(state), score)
        return None if self._opened is None else self._opened.write(output)

    def _ask(self, stage: Stage) -> Kept | Resume | None:
        from flax import serialization

        answers: list[Any] = []

        def ask() -> bytes:
            answers.append(self._opened.write(stage))
            match answers[0]:
                case Kept():
                    return b"kept" + serialization.msgpack_serialize({"": answers[0].result})
                case Resume():
                    return b"resume"
            return b""

        reply = hosts.from_first(ask)
        if reply.startswith(b"kept"):
            return Kept(stage.name, serialization.msgpack_restore(reply[4:])[""])
        return self._resume(lambda: answers[0]) if reply == b"resume" else None

    def finish(self) -> dict[str, Any]:
        """See `Results.finish`; the others wait for it."""
        self.summary = _value(hosts.from_first(lambda: _bytes(self._opened.finish())))
        return self.summary

    def discard_if_empty(self) -> None:
        """See `Results.discard_if_empty`."""
        if self._opened is not None:
            self._opened.discard_if_empty()

    def rows_were_changed(self) -> bool:
        """See `Results.rows_were_changed`; False in all processes but the first."""
        return self._opened is not None and self._opened.rows_were_changed()


def _bytes(value: Any) -> bytes:
    return json.dumps(to_json(value)).encode()


def _value(data: bytes) -> Any:
    return from_json(json.loads(data))


def _packed(tree: PyTree) -> bytes:
    """The bytes of all leaves, one after the other."""
    return b"".join(_plain(leaf).tobytes() for leaf in jax.tree.leaves(tree))


def _plain(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _in_the_form_of(like: PyTree, data: bytes) -> PyTree:
    """The leaves from their bytes, where those of `like` are."""
    at = 0

    def take(leaf: Any) -> Any:
        nonlocal at
        form = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        form = form if hasattr(form, "dtype") else np.asarray(form)
        size = int(np.prod(form.shape))
        values = np.frombuffer(data, form.dtype, size, at).reshape(form.shape).copy()
        at += values.nbytes
        return _like(leaf, values)

    return jax.tree.map(take, like)


def _like(leaf: Any, values: np.ndarray) -> Any:
    if isinstance(leaf, bool | int | float | complex):
        return type(leaf)(values.item())
    if isinstance(leaf, np.generic):
        return values[()]
    if not isinstance(leaf, jax.Array):
        return values
    data = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    # One that was free to go where others are stays free.
    there = placed(values, data.sharding) if data.committed else jnp.asarray(values)
    return (
        jax.random.wrap_key_data(there, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else there
    )
