"""(a) The device, and what its products, its memory and one dispatch reach."""

import os
import platform
import shutil
import subprocess
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np

from accelerator_sections.bench import Bench
from accelerator_sections.measuring import compiled, compiled_together, in_turn, interleaved

HELD_AGAINST = "nothing: these are the roofs of the other sections"


def run(bench: Bench) -> None:
    """A large product in bfloat16 and float32, a copy, a dispatch, and the way from the host."""
    on_cpu = jax.default_backend() == "cpu"
    size = 256 if bench.tiny else 2048 if on_cpu else 8192
    num_bytes = 2**22 if bench.tiny else 2**28 if on_cpu else 2**30
    key = jax.random.key(0)
    squares = [jax.random.normal(one, (size, size)) for one in jax.random.split(key)]
    narrow = [one.astype(jnp.bfloat16) for one in squares]
    long = jax.random.normal(key, (num_bytes // 4,))
    highest = jax.lax.Precision.HIGHEST
    jobs = {
        "bfloat16": lambda: compiled(jnp.matmul, narrow),
        "float32": lambda: compiled(jnp.matmul, squares),
        "float32, highest precision": lambda: compiled(
            lambda a, b: jnp.matmul(a, b, precision=highest), squares
        ),
        # A copy alone might be left out; this one reads and writes every byte as well.
        "copy": lambda: compiled(lambda x: x + 1, [long]),
        "dispatch": lambda: compiled(lambda x: x + 1, [jnp.float32(0)]),
    }
    programs = compiled_together(jobs)
    given = {"bfloat16": narrow, "copy": [long], "dispatch": [jnp.float32(0)]}
    calls = {
        name: in_turn(program.call, [given.get(name, squares)])
        for name, program in programs.items()
        if not isinstance(program, str)
    }
    times = interleaved(calls, 0.3 if bench.tiny else 3)
    for name, program in programs.items():
        time = program if isinstance(program, str) else times[name]
        if isinstance(time, str):
            bench.row(roof=name, why=time)
        elif name == "copy":
            bench.row(roof=name, bytes_per_second=2 * num_bytes / time.median, **time.row())
        elif name == "dispatch":
            bench.row(roof=name, **time.row())
        else:
            bench.row(roof=name, size=size, flops=2 * size**3 / time.median, **time.row())
    transfers(bench, num_bytes // 4)


def transfers(bench: Bench, num_bytes: int) -> None:
    """Bytes per second from the host's memory to the device's and back."""
    on_host = np.random.default_rng(0).integers(256, size=num_bytes, dtype=np.uint8)
    on_device = jax.device_put(on_host)
    calls = {
        "to the device": lambda: jax.device_put(on_host),
        # An array keeps the copy on the host that was once asked for; a new one has none.
        "to the host": lambda: np.asarray(on_device + 0),
    }
    for name, time in interleaved(calls, 0.1 if bench.tiny else 1).items():
        if isinstance(time, str):
            bench.row(transfer=name, why=time)
        else:
            bench.row(transfer=name, bytes_per_second=num_bytes / time.median, **time.row())


def machine() -> dict:
    """What the numbers belong to."""
    device = jax.devices()[0]
    stats = device.memory_stats() if hasattr(device, "memory_stats") else None
    return {
        "device": device.device_kind,
        "backend": jax.default_backend(),
        "devices": jax.device_count(),
        "memory_limit": (stats or {}).get("bytes_limit"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "default_matmul_precision": jax.config.jax_default_matmul_precision,
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "nvidia_smi": nvidia(),
    } | versions()


def nvidia() -> str | None:
    """Name, driver and memory of the card."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return done.stdout.strip() or None


def versions() -> dict[str, str | None]:
    """Of Python and of what the sections use."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "optax", "numpy", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
