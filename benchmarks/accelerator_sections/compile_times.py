"""(i) How long programs take to compile, without the persistent cache, filling it and from it."""

import functools
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from accelerator_sections import contrastive_memory, networks
from accelerator_sections.bench import Bench, reason
from accelerator_sections.compilation_cache import cached_in
from lnl_jax import losses

HELD_AGAINST = (
    "compiling the same program without the cache, which comes first: kernels that the compiler "
    "then chose by trying, as it does on a GPU, it need not try again where it fills the cache"
)


def run(bench: Bench) -> None:
    """A loss, InfoNCE in tiles and a training step, of shapes that no other section has."""
    for name, make in programs(bench.tiny).items():
        if bench.has_time(1 if bench.tiny else 5, name):
            try:
                bench.row(program=name, **seconds(make))
            except Exception as error:  # noqa: BLE001
                bench.row(program=name, why=reason(error))


def programs(tiny: bool) -> dict[str, Callable[[], tuple[Callable, tuple]]]:
    """By name what makes a new function, which JAX has not seen, and its arguments."""
    batch, classes = (24, 7) if tiny else (8000, 1003)

    def loss() -> tuple[Callable, tuple]:
        def mean(scores, labels):
            return losses.aldr_kl(scores, labels).mean()

        struct = jax.ShapeDtypeStruct
        return jax.value_and_grad(mean), (
            struct((batch, classes), jnp.float32),
            struct((batch,), jnp.int32),
        )

    def tiles() -> tuple[Callable, tuple]:
        step = functools.partial(contrastive_memory.info_nce, block_size=8 if tiny else 1000)
        pair = (jax.ShapeDtypeStruct((batch, 24), jnp.float32),) * 2
        return jax.value_and_grad(lambda *pair: step(*pair), (0, 1)), pair

    def network() -> tuple[Callable, tuple]:
        step = networks.training(networks.network_of("resnet8", "float32", tiny))
        state = networks.start("resnet8", tiny)
        of_batch = jax.eval_shape(functools.partial(networks.batch_of, 6 if tiny else 96))
        return step, (state, of_batch)

    return {"aldr_kl": loss, "info_nce in tiles": tiles, "resnet8's step": network}


def seconds(make: Callable[[], tuple[Callable, tuple]]) -> dict[str, Any]:
    """Of tracing and lowering, and of the compiler in the three cases."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="compile-times-") as folder:
        for case, where in (("without", None), ("filling", folder), ("from", folder)):
            function, arguments = make()
            with cached_in(where):
                start = time.perf_counter()
                lowered = jax.jit(function).lower(*arguments)
                after = time.perf_counter()
                lowered.compile()
                found[f"seconds_{case}"] = time.perf_counter() - after
                found.setdefault("seconds_of_tracing", after - start)
    return found | {"from_to_without": found["seconds_from"] / found["seconds_without"]}
