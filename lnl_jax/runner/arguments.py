"""What the arguments of a study may be: ranges in its signature, checks, and the error they raise.

A study is a generator function under `study`, whose signature says the range of each number:
``epochs: Count = 50``. It is refused when it is called, before anything is read or trained.
"""

import contextlib
import dataclasses
import difflib
import errno
import functools
import math
import numbers
import types
import typing
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np


class StudyError(ValueError):
    """An argument that a study refuses, or data that it cannot use: the user's to mend.

    Only this error becomes one line on the command line; any other shows where it came from.
    """


@dataclasses.dataclass(frozen=True)
class Range:
    """Which numbers an argument may be; never NaN.

    Attributes:
        at_least: the smallest.
        at_most: the largest.
        above: a bound that is no longer allowed, from below.
        below: such a bound from above.

    Example:
        >>> 0 in Range(above=0), 0.5 in Range(above=0, at_most=1), str(Range(1, 10))
        (False, True, 'from 1 to 10')
    """

    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        return self.in_words()

    def in_words(self, up_to: float = 1e9) -> str:
        """The bounds, but those that nobody comes near."""
        if math.isfinite(self.at_least) and math.isfinite(self.at_most):
            return f"from {self.at_least:,} to {self.at_most:,}"
        bounds = {"at least": self.at_least, "above": self.above}
        bounds |= {"at most": self.at_most, "below": self.below}
        return " and ".join(f"{word} {to:,}" for word, to in bounds.items() if abs(to) < up_to)


# Upper bounds are for slips of the keys, which would end in the memory of the machine.
Count = Annotated[int, Range(1, 1_000_000)]
NotNegative = Annotated[float, Range(0, below=1e30)]
Positive = Annotated[float, Range(above=0, below=1e30)]
Repetitions = Annotated[int, Range(1, 1_000)]
# At least two, for a standard deviation.
Seeds = Annotated[int, Range(2, 1_000)]
# Dates are in it; what is made of it, for the folds or the parts of a study, stays an int32.
Seed = Annotated[int, Range(0, 99_999_999)]
Folds = Annotated[int, Range(2, 20)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(above=0, at_most=1)]
# All views of a training are in memory.
Steps = Annotated[int, Range(1, 20_000)]
Size = Annotated[int, Range(1, 65_536)]
Threads = Annotated[int, Range(0, 256)]
Whole = Annotated[int, Range(0, 1_000_000)]
# In what networks compute; parameters, statistics, losses and sums are float32 all the same.
PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
Precision = Annotated[Any, PRECISIONS]


def study(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Makes a generator function a study: its arguments are checked when it is called.

    Args:
        function: keyword-only; the types of its numbers say their ranges.

    Returns:
        The function with the checks before it, which raise `StudyError`.

    Example:
        >>> @study
        ... def my_study(*, epochs: Count = 5):
        ...     yield {"epoch": epochs}
        >>> my_study(epochs=0)
        Traceback (most recent call last):
        ...
        lnl_jax.runner.arguments.StudyError: epochs must be from 1 to 1,000,000, got 0.
    """

    @functools.wraps(function)
    def checked(**arguments: Any) -> Iterator[Any]:
        check_arguments(function, arguments)
        return function(**arguments)

    return checked


def check_arguments(function: Callable, arguments: Mapping[str, Any]) -> None:
    """Raises StudyError for a number out of the range that the signature gives, or none of some.

    Args:
        function: the study.
        arguments: what it would be called with.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    for name, value in arguments.items():
        if hasattr(value, "_asdict"):  # a NamedTuple, whose fields have ranges of their own
            fields = {f"{name}.{field}": one for field, one in value._asdict().items()}
            own = typing.get_type_hints(type(value), include_extras=True)
            _check(fields, {f"{name}.{field}": hint for field, hint in own.items()})
    _check(arguments, hints)


def _check(arguments: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        found = _range_of(hints.get(name))
        if found is None or value is None:
            continue
        kind, allowed, several = found
        if several and not len(value):
            raise StudyError(f"{name} must hold at least one number, got none.")
        for one in value if several else (value,):
            check_number(name, one, kind, allowed)


def check_number(name: str, value: Any, kind: type, allowed: Range) -> None:
    """Raises StudyError unless the value is a number of this kind in this range."""
    of_kind = numbers.Integral if kind is int else numbers.Real
    if not isinstance(value, of_kind) or isinstance(value, bool) or value not in allowed:
        what = "a whole number " * (kind is int and isinstance(value, float))
        # A number beyond the bounds that are said is told the others.
        far = isinstance(value, numbers.Real) and abs(value) >= 1e9
        bounds = allowed.in_words(math.inf) if far else allowed
        raise StudyError(f"{name} must be {what}{bounds}, got {value}.")


def _range_of(annotation: Any) -> tuple[type, Range, bool] | None:
    """Kind and range of an argument's numbers, and whether it takes several."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    for member in typing.get_args(annotation) if is_union else (annotation,):
        several = typing.get_origin(member) is tuple
        inner = typing.get_args(member)[0] if several else member
        for extra in getattr(inner, "__metadata__", ()):
            if isinstance(extra, Range):
                return typing.get_args(inner)[0], extra, several
    return None


@contextlib.contextmanager
def refused(what: str = "") -> Iterator[None]:
    """Makes a StudyError of what a function says that the user chose.

    For reading the user's data, and for trying what was chosen on a small input. Never around a
    training, whose errors must show where they came from.

    Args:
        what: put before the message, with a colon.

    Yields:
        Nothing.
    """
    try:
        yield
    except StudyError:
        raise
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise StudyError(f"{what}: {error}" if what else str(error)) from error


def check_names(name: str, given: Sequence[str], known: Collection[str]) -> None:
    """Raises StudyError for a name that is not known, one that is there twice, or none at all."""
    if not given:
        raise StudyError(f"{name} must hold at least one of {', '.join(known)}; got none.")
    for one in given:
        if one not in known:
            raise StudyError(f"{name} cannot be {one}; {close_names(one, known)}")
    check_once(name, given)


def check_once(name: str, given: Sequence[Any]) -> None:
    """Raises StudyError for a value that is there twice."""
    if len(set(given)) < len(given):
        raise StudyError(f"{name} must not name anything twice, got {', '.join(map(str, given))}.")


def close_names(name: str, names: Iterable[str]) -> str:
    """What to say where a name is unknown: the nearest right ones, or all."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {', '.join(names) or 'none'}"


def check_templates(templates: Sequence[str]) -> None:
    """Raises StudyError for a text without a place for the name of a class, or for none."""
    if not templates or not all("{}" in template for template in templates):
        given = ", ".join(map(repr, templates)) or "none"
        raise StudyError(f"templates must each have {{}} for the name of the class, got {given}.")


def check_batch_size(batch_size: int, examples: int, name: str = "batch_size") -> None:
    """Raises StudyError for batches of more than all training examples."""
    if batch_size > examples:
        raise StudyError(
            f"{name} must be at most the {examples:,} training examples, got {batch_size:,}."
        )


def check_memory(needed: int, device: int | None) -> str:
    """Raises StudyError for a run that needs more memory than the device has, where that is known.

    Args:
        needed: bytes.
        device: bytes of the device; None where it does not tell.

    Returns:
        A line on it.

    Example:
        >>> check_memory(1_234_567_890, None)
        'about 1.2 GB on the device'
    """
    if device is not None and needed > device:
        raise StudyError(
            f"the run needs about {_size(needed)} of the device's {_size(device)}: take smaller "
            "batches (batch_size), a smaller network (model), fewer settings, or precision "
            "bfloat16."
        )
    return f"about {_size(needed)} on the device"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def check_images(splits: Any, source: str) -> None:
    """Raises StudyError for a data set that is not of images with labels."""
    _check_columns(splits, "image", source, "images", "other studies take tables")


def check_table(splits: Any, source: str) -> None:
    """Raises StudyError for a data set that is not a table of numbers with labels."""
    _check_columns(splits, "x", source, "a table of numbers", "other studies take images")


def _check_columns(splits: Any, column: str, source: str, what: str, instead: str) -> None:
    there = sorted(splits.train)
    if column not in there or "label" not in there:
        shapes = ", ".join(f"{name} {np.shape(splits.train[name])}" for name in there)
        raise StudyError(f"{source} must be {what} with labels, but holds {shapes}; {instead}.")


# A network of more is a slip of the keys, not a study.
MOST_PARAMETERS = 2_000_000_000


def check_network(what: str, initialise: Callable[[], Any]) -> Any:
    """The shapes of a network's parameters, without making them.

    Args:
        what: the argument that chose the network.
        initialise: returns its variables.

    Raises:
        StudyError: if it cannot be built, has a part without elements, or is beyond all measure.
    """
    try:
        with refused(what):
            shapes = jax.eval_shape(initialise)
    except ArithmeticError as error:
        raise StudyError(
            f"{what} cannot be built ({error}); its sizes must be at least 1."
        ) from error
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)]
    if not all(sizes):
        raise StudyError(f"{what} has a layer without elements; its sizes must be at least 1.")
    if sum(sizes) > MOST_PARAMETERS:
        raise StudyError(f"{what} has {sum(sizes):.1e} parameters; make it smaller.")
    return shapes
