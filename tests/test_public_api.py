"""The public names of every room, as they are promised; a change of the list is a decision."""

import importlib
from pathlib import Path

from lnl_jax import distill

ROOMS = (
    *("losses", "contrastive", "reweighting", "semi_supervised", "label_models", "metrics"),
    *("noise", "evaluation", "models", "data", "data.augment", "data.preprocess", "train"),
    *("comparison", "runner", "distill", *(f"distill.{part}" for part in distill.__all__)),
)
LIST = Path(__file__).parent / "golden" / "public_api.txt"


def public_names():
    """A line a name: the room, and the name."""
    found = []
    for room in ROOMS:
        module = importlib.import_module(f"lnl_jax.{room}")
        names = getattr(module, "__all__", None)
        if names is None:
            names = [name for name in vars(module) if not name.startswith("_")]
        found += [f"{room}.{name}" for name in sorted(names)]
    return found


def test_the_public_names_are_those_of_the_list():
    expected, found = LIST.read_text().split(), public_names()
    gone, new = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    assert not gone, f"names that users may import are gone: {gone}"
    assert not new, (
        f"names that are not in {LIST.name}: {new}; add them, and a line to the CHANGELOG"
    )


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n")
