"""Arguments that went wrong, and what a function may do with them."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np

NUMBERS = (
    0, -1, 1, 2, 7, 0.0, -0.5, 1e-30, 0.5, 1.5, 1e30, float("nan"), float("inf"), -float("inf"),
    2**31, 2**70, -(2**70), True, "1", None, 1j, (), [0.5, 0.5], np.float64("nan"), np.int64(2),
    np.zeros(2), np.ones((1, 1, 1, 1)), {},
)  # fmt: skip


def _values(value, with_):
    return np.full(np.shape(value), with_, np.asarray(value).dtype)


# From a right array to a wrong one, or to a right one of extreme values.
ARRAYS = {
    "a row less": lambda a: a[:-1],
    "a row more": lambda a: np.concatenate([a, a[:1]]),
    "no rows": lambda a: a[:0],
    "an axis more": lambda a: a[None],
    "an axis more at the end": lambda a: a[..., None],
    "an axis less": lambda a: a[0],
    "turned": lambda a: a.T,
    "a scalar": lambda a: a.ravel()[0],
    "no scalar": lambda a: np.zeros((), a.dtype),
    "int8": lambda a: a.astype(np.int8),
    "uint8": lambda a: a.astype(np.uint8),
    "int64": lambda a: a.astype(np.int64),
    "bool": lambda a: a.astype(bool),
    "float16": lambda a: a.astype(np.float16),
    "float32": lambda a: a.astype(np.float32),
    "float64": lambda a: a.astype(np.float64),
    "bfloat16": lambda a: jnp.asarray(np.asarray(a, np.float32), jnp.bfloat16),
    "complex": lambda a: a.astype(np.complex64),
    "text": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "list": lambda a: a.tolist(),
    "ragged": lambda a: [[1], [2, 3]],
    "zeros": lambda a: np.zeros_like(a),
    "minus one": lambda a: np.full(a.shape, -1).astype(a.dtype),
    "large": lambda a: np.full(a.shape, 127).astype(a.dtype),
    "1e30": lambda a: np.full(a.shape, 1e30, np.float32),
    "nan": lambda a: np.full(a.shape, np.nan, np.float32),
    "inf": lambda a: np.full(a.shape, np.inf, np.float32),
    "-inf": lambda a: np.full(a.shape, -np.inf, np.float32),
    "2**31": lambda a: np.full(a.shape, 2**31),
    "none": lambda a: None,
    "word": lambda a: "word",
    "number": lambda a: 3,
    "dict": lambda a: {},
}


# Of which there may be as many as somebody has patience for.
COUNTS = re.compile("iterations|steps|rounds|every|num_|repeats|^k$|trees|folds|components|size")


def changes_of(name, value):
    """Names of what can be put in the place of a right argument."""
    if is_array(value):
        return tuple(ARRAYS)
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    patient = (
        [at for at, one in enumerate(NUMBERS) if type(one) is int and one >= 2**31]
        if COUNTS.search(name)
        else ()
    )
    return tuple(at for at in range(len(NUMBERS)) if at not in patient) if number else ()


def is_array(value):
    return isinstance(value, jax.Array | np.ndarray)


def changed(value, change):
    """The wrong argument; None where the change makes no sense for the right one."""
    if not is_array(value):
        return NUMBERS[change]
    host = np.asarray(value)
    if change in ("a row less", "a row more", "no rows", "an axis less") and not host.ndim:
        return None
    with np.errstate(all="ignore"):
        found = ARRAYS[change](host)
    keeps = (
        isinstance(found, np.ndarray) and found.dtype.kind in "biuf" and found.dtype.itemsize < 8
    )
    return jnp.asarray(found) if keeps and isinstance(value, jax.Array) else found


def fault_of(call, name, value):
    """What is wrong with how a function takes an argument; empty where nothing is.

    It may take it, or raise a `ValueError` of one line that names an argument.
    """
    try:
        jax.block_until_ready(jax.tree.leaves(call(**{name: value})))
    except ValueError as error:
        message = str(error)
        names = [*inspect.signature(call.function).parameters, *call.arguments]
        if "\n" in message:
            return f"a message of several lines: {message[:300]!r}"
        if not any(re.search(rf"\b{one}\b", message) for one in names):
            return f"a message that names no argument: {message[:300]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    return ""
