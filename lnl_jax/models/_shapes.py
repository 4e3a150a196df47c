"""What the shapes of a checkpoint tell, and whether its configuration agrees."""

import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def part_of(config: Mapping, name: str, defaults: Mapping) -> dict[str, Any]:
    """One part of a configuration of the transformers library."""
    # Where both are there, the second has the last word.
    return {**defaults, **(config.get(name) or {}), **(config.get(f"{name}_dict") or {})}


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
        return declared[0]
    return declared


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
    found = [re.match(pattern, name) for name in shapes]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def of_texts(tokens: tuple[int, ...], positions: tuple[int, ...]) -> dict[str, int]:
    """What the tables of tokens and positions tell of a text tower."""
    return {"vocabulary": tokens[0], "width": tokens[1], "context_length": positions[0]}


def root_of(count: int) -> int:
    """The side of a square of so many positions."""
    root = round(max(count, 0) ** 0.5)
    if root < 1 or root**2 != count:
        raise ValueError(f"{count} positions of the image tower are not those of a square image.")
    return root
