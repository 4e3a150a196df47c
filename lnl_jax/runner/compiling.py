"""Whether JAX is compiling, for the progress of a run to say so."""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax.monitoring

# JAX tells the duration of a part of its work at the end of it: after lowering comes the compiler.
_BEFORE = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_AFTER = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def watched(begun: Callable[[], None] = lambda: None) -> Iterator[Callable[[], float]]:
    """Watches the compiler.

    Args:
        begun: called whenever it begins.

    Yields:
        A function that returns the seconds since it began; 0 where it is not at work.
    """
    since: float | None = None

    def listen(event: str, duration: float, **more: object) -> None:
        nonlocal since
        if event == _BEFORE:
            since = time.monotonic()
            begun()
        elif event == _AFTER:
            since = None

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: 0.0 if since is None else time.monotonic() - since
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
