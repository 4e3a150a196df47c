"""Learning from imperfect labels in JAX."""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"


def _rooms() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]


def __getattr__(name: str) -> ModuleType:
    # A room is imported when it is asked for: `losses` must not wait for flax.
    if not name.startswith("_") and name in _rooms():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_rooms()})
