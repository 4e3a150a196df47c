"""What the shapes of a checkpoint tell, and whether its configuration agrees."""

import re
from collections.abc import Mapping
from typing import Any

LARGEST = 1 << 31
Shapes = Mapping[str, tuple[int, ...]]


def part_of(config: Mapping, name: str, defaults: Mapping) -> dict[str, Any]:
    """One part of a configuration of the transformers library."""
    # Where both are there, the second has the last word.
    sections = (section_of(config, key) for key in (name, f"{name}_dict"))
    return {**defaults, **{key: value for section in sections for key, value in section.items()}}


def section_of(config: Mapping, name: str) -> dict[str, Any]:
    """An object inside a configuration, empty where there is none."""
    section = config.get(name) or {}
    if not isinstance(section, dict):
        raise ValueError(f"the configuration must have an object as {name}, got {section!r}.")
    return section


def number_of(section: Mapping[str, Any], name: str, default: float | None = None) -> Any:
    """A positive number of a configuration, whole where the default is."""
    value = default if section.get(name) is None else section[name]
    kinds = (float, int) if isinstance(default, float) else (int,)
    if not isinstance(value, kinds) or isinstance(value, bool) or not 0 < value < LARGEST:
        what = "a number" if isinstance(default, float) else "a whole number"
        raise ValueError(f"the configuration must have {what} above 0 as {name}, got {value!r}.")
    return value


def heads_of(section: Mapping[str, Any], name: str, width: int, default: int | None = None) -> int:
    """How many heads a configuration has, which divide the width."""
    heads = number_of(section, name, default)
    if width % heads:
        raise ValueError(f"heads must divide the width {width}; the configuration has {heads}.")
    return heads


def one_of(section: Mapping[str, Any], name: str, known: Mapping[str, Any], of: str) -> Any:
    """What a name in a configuration stands for, such as an activation."""
    value = section.get(name)
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"config.json asks for the activation {value!r}; {of} has one of {sorted(known)}."
        )
    return known[value]


def image_side(declared: Any, found: Mapping[str, int]) -> int:
    """Rows and columns; the weights only tell how many whole patches these have."""
    size = side(declared)
    if size is None:
        return found["image_size"]
    whole = size // found["patch_size"] * found["patch_size"]
    agree({"image_size": whole}, found)
    return size


def side(declared: Any) -> int | None:
    """The side of a square, which some configurations give twice."""
    if isinstance(declared, list | tuple):
        if len(declared) != 2 or declared[0] != declared[1]:
            raise ValueError(f"the configuration must have a square image_size, got {declared}.")
        declared = declared[0]
    return None if declared is None else number_of({"image_size": declared}, "image_size")


def agree(declared: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises ValueError where the configuration says something else than the weights."""
    for name, value in declared.items():
        if value is not None and name in found and value != found[name]:
            raise ValueError(
                f"the configuration says {name} {value}, the weights {found[name]}: they belong to "
                "different checkpoints."
            )


def shape_of(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor that has to be there, with so many dimensions."""
    if name not in shapes:
        raise ValueError(f"missing: {name}; this is a checkpoint of another architecture.")
    if len(shapes[name]) != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, got the shape {shapes[name]}.")
    return shapes[name]


def count_of(shapes: Shapes, pattern: str) -> int:
    """How many layers the names tell, of a pattern whose group is their number."""
    found = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    if found != set(range(len(found))):
        raise ValueError(f"layers must be numbered from 0 on, got {len(found)} with {max(found)}.")
    return len(found)


def of_texts(tokens: tuple[int, ...], positions: tuple[int, ...]) -> dict[str, int]:
    """What the tables of tokens and positions tell of a text tower."""
    return {"vocabulary": tokens[0], "width": tokens[1], "context_length": positions[0]}


def root_of(count: int) -> int:
    """The side of a square of so many positions."""
    root = round(max(count, 0) ** 0.5)
    if root < 1 or root**2 != count:
        raise ValueError(f"{count} positions of the image tower are not those of a square image.")
    return root
