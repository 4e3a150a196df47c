"""Tensors of an old file of PyTorch, whose pickles are walked and not executed.

Such a file is three small pickles (a number, a version, the sizes of C's types), the pickle of a
dict of tensors, that of the keys of their storages, and the storages: a count and the numbers.
What a pickle would call is never looked up: four names have a meaning here, each other one is
shown and refused.
"""

import io
import math
import pickletools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
DICT, TENSOR = "collections.OrderedDict", "torch._utils._rebuild_tensor_v2"
STORAGES = {"torch.FloatStorage": np.dtype("<f4"), "torch.LongStorage": np.dtype("<i8")}
# Characters of what is wrong.
SHOWN = 300
NAMES = (DICT, TENSOR, *STORAGES)
_MARK = object()


class _Name(NamedTuple):
    """What the pickle would import."""

    name: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a dict that ``torch.save`` wrote in its old form.

    Raises:
        ValueError: if the file is of another form, was cut off, or names anything but what a dict
            of tensors needs; the name is shown, and nothing of the file is executed.
    """
    with path.open("rb") as opened:
        if opened.read(2) == b"PK":
            raise ValueError(
                f"{path} is a zip archive, the newer form of PyTorch; this reads the old one, in "
                "which the published file is."
            )
        opened.seek(0)
        # In memory, where no length that was made up asks for more than there is.
        file = io.BytesIO(opened.read())
    try:
        with warnings.catch_warnings():
            # Of names with backslashes, which are refused anyway.
            warnings.simplefilter("ignore", DeprecationWarning)
            return _read(file)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # What it shows is of the file, which may hold anything.
        reason = " ".join(ascii(str(error))[1:-1].replace("\\n", " ").split())[:SHOWN]
        raise ValueError(
            f"{path} is not a complete file of PyTorch in its old form "
            f"({file.getbuffer().nbytes} bytes; {reason}): it was cut off or is something else. "
            "Nothing of it was executed."
        ) from None


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if _walked(file) != MAGIC:
        raise ValueError("its first number is another one")
    if _walked(file) != PROTOCOL:
        raise ValueError("its version is another one")
    if _walked(file).get("little_endian") is not True:
        raise ValueError("its bytes are not little-endian")
    tensors, keys = _walked(file), _walked(file)
    if not isinstance(tensors, dict) or not all(isinstance(t, _Tensor) for t in tensors.values()):
        raise ValueError("it holds something other than a dict of tensors")
    for name in tensors:
        if not (isinstance(name, str) and name.isprintable()):
            raise ValueError(f"a tensor has the name {name!r}")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if set(storages) != set(keys) or len(keys) != len(storages):
        raise ValueError("its list of storages is that of other tensors")
    values = {key: _numbers(file, storages[key]) for key in keys}
    if file.read(1):
        raise ValueError("more follows the last tensor")
    return {name: _placed(name, tensor, values) for name, tensor in tensors.items()}


def _numbers(file: BinaryIO, storage: _Storage) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    length = count * storage.dtype.itemsize
    content = file.read(length) if count == storage.count else b""
    if count != storage.count or len(content) != length:
        raise ValueError(f"{storage.count} numbers of a storage are not there")
    return np.frombuffer(content, storage.dtype)


def _placed(name: str, tensor: _Tensor, values: dict[str, np.ndarray]) -> np.ndarray:
    """The tensor, which need not lie in the order of its axes."""
    storage, offset, shape, strides = tensor
    numbers = (offset, *shape, *strides)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{name} lies at {numbers}")
    last = offset + sum(
        (length - 1) * step for length, step in zip(shape, strides, strict=True) if length
    )
    if math.prod(shape) > storage.count or last >= max(storage.count, 1):
        raise ValueError(f"{name} lies beyond its storage")
    found = values[storage.key]
    view = np.lib.stride_tricks.as_strided(
        found[offset:], shape, [step * found.itemsize for step in strides], writeable=False
    )
    return np.ascontiguousarray(view).reshape(shape)


def _walked(file: BinaryIO) -> Any:
    """What one pickle says, as a record of it: the opcodes that a dict of tensors needs."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "STOP":
            (value,) = stack
            return value
        if name in _PUSHED:
            stack.append(_PUSHED[name](argument))
        elif name in _MEMO_PUT:
            memo[argument] = stack[-1]
        elif name in _MEMO_GET:
            if argument not in memo:
                raise ValueError("a memo is asked for that was not kept")
            stack.append(memo[argument])
        elif name in _STEPS:
            _STEPS[name](stack)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name not in ("PROTO", "FRAME"):
            of = "" if argument is None else f" of {str(argument).replace(' ', '.')}"
            raise ValueError(f"its pickle has the operation {name}{of}")
    raise ValueError("a pickle does not end")


def _named(argument: str) -> _Name:
    name = argument.replace(" ", ".")
    if name not in NAMES:
        raise ValueError(f"its pickle names {name}; a dict of tensors needs {', '.join(NAMES)}")
    return _Name(name)


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _tuple(stack: list[Any]) -> None:
    stack.append(tuple(_since_mark(stack)))


def _short_tuple(count: int) -> Callable[[list[Any]], None]:
    def make(stack: list[Any]) -> None:
        values = tuple(stack[-count:])
        del stack[-count:]
        stack.append(values)

    return make


def _set_items(stack: list[Any]) -> None:
    values = _since_mark(stack)
    _a_dict(stack[-1]).update(zip(values[::2], values[1::2], strict=True))


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _a_dict(stack[-1])[key] = value


def _append_all(stack: list[Any]) -> None:
    values = _since_mark(stack)
    stack[-1].extend(values)


def _a_dict(value: Any) -> dict:
    if not isinstance(value, dict):
        raise ValueError("items are put into something other than a dict")
    return value


def _called(stack: list[Any]) -> None:
    """Not called: written down, where it is one of the two calls that have a meaning here."""
    arguments, function = stack.pop(), stack.pop()
    if function == _Name(DICT) and arguments == ():
        stack.append({})
    elif function == _Name(TENSOR) and isinstance(arguments[0], _Storage):
        stack.append(_Tensor(*arguments[:4]))
    else:
        called = getattr(function, "name", function)
        raise ValueError(f"its pickle calls {called} with {len(arguments)} arguments")


def _stored(stack: list[Any]) -> None:
    kind, dtype, key, _, count, _ = stack.pop()
    if kind != "storage" or dtype.name not in STORAGES or type(count) is not int:
        raise ValueError(f"its storage is {kind} of {dtype}")
    stack.append(_Storage(key, STORAGES[dtype.name], count))


def _stack_named(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(_named(f"{module} {name}"))


def _state(stack: list[Any]) -> None:
    """The attributes of a dict, such as the versions of its modules: left out."""
    stack.pop()
    _a_dict(stack[-1])


_PUSHED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), lambda value: value),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE"), lambda value: value),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "MARK": lambda _: _MARK,
    "GLOBAL": _named,
}
_MEMO_PUT, _MEMO_GET = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
_STEPS: dict[str, Callable[[list[Any]], None]] = {
    "STACK_GLOBAL": _stack_named,
    "TUPLE": _tuple,
    "TUPLE1": _short_tuple(1),
    "TUPLE2": _short_tuple(2),
    "TUPLE3": _short_tuple(3),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPENDS": _append_all,
    "REDUCE": _called,
    "BINPERSID": _stored,
    "BUILD": _state,
}
