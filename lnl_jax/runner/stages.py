"""Expensive parts of a study, each computed once: kept by name, handed back after an interruption.

A stage's result is kept as msgpack, which holds no code: dicts and lists of arrays, numbers, text
and bytes.
"""

import inspect
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import numpy as np

from lnl_jax.runner.outputs import Kept, Output, Resume, Stage


def stage(
    name: str, function: Callable[..., Any], *args: Any, **keywords: Any
) -> Generator[Output, Any, Any]:
    """Calls a function, unless an earlier session of the run kept what it returned.

    To be used as ``result = yield from stage("teacher", train_teacher, images)``.

    A generator function may yield rows, artifacts and checkpoints of its own before it returns. If
    it has a keyword `resume`, it is handed what an interrupted session left of it, as a study is;
    one that yields checkpoints must have it.
    After an interruption the study runs again from its start; stages that had ended give back what
    they returned, and the rows before their end are not written again.

    Args:
        name: of the stage, once in a run.
        function: returns a pytree of dicts with text as keys, and lists, of arrays, numbers, text,
            bytes and None.
        *args: its arguments.
        **keywords: its keywords.

    Yields:
        What the function yields, and what tells the runner where the stage begins and ends.

    Returns:
        What the function returned, its arrays as NumPy's, whether it was computed now or earlier.

    Raises:
        TypeError: if the result holds anything else; the message says where.

    Example:
        >>> def my_study():
        ...     total = yield from stage("add", sum, [1, 2, 3])
        ...     yield {"epoch": 1, "loss": total}
        >>> [output for output in my_study() if isinstance(output, dict)]
        [{'epoch': 1, 'loss': 6}]
    """
    resumable = "resume" in inspect.signature(function).parameters
    earlier = yield Stage(name, resumable)
    if isinstance(earlier, Kept):
        # Arrays of its own, as those of a result that was computed now.
        return _on_host(earlier.result, name)
    if resumable:
        keywords["resume"] = earlier or Resume()
    result = function(*args, **keywords)
    if inspect.isgenerator(result):
        result = yield from result
    result = _on_host(result, name)
    yield Kept(name, result)
    return result


def _on_host(value: Any, where: str) -> Any:
    """The same with NumPy's arrays, so that a result does not depend on when it was computed."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _on_host(part, f"{where}[{key!r}]") for key, part in value.items()}
    if type(value) is list:
        return [_on_host(part, f"{where}[{index}]") for index, part in enumerate(value)]
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(f"stage {where} is a random key; return jax.random.key_data of it.")
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.array(value)
        if not any(jax.dtypes.issubdtype(array.dtype, kind) for kind in (np.number, np.bool_)):
            raise TypeError(
                f"stage {where} is an array of {array.dtype}; return arrays of numbers, and text "
                "as a list, array.tolist()."
            )
        return array
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise TypeError(
        f"stage {where} is a {type(value).__name__}; a stage returns dicts with text as keys, and "
        "lists, of arrays, numbers, text, bytes and None."
    )
