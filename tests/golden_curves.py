"""The same numbers tomorrow: of every room's functions, and of a few steps of the studies.

    python -m tests.golden_curves [--write]

compares them with `golden/rooms.npz` and `golden/curves.json`, or writes these. Functions are
compared in float64 to 1e-11 and in float32 to 2e-5 (relative, or of the largest number of an
answer); curves, which float32 and its sums carry through training, to 1%. The versions of JAX
differ in the order of their sums, not in more.
"""

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests.properties.calls import CALLS

GOLDEN = Path(__file__).parent / "golden"
ROOMS, CURVES = GOLDEN / "rooms.npz", GOLDEN / "curves.json"
BOUNDS = {"float64": 1e-11, "float32": 2e-5}
OF_CURVES = 0.01
# Its descent of a loss with edges ends where rounding leaves it.
OTHERWISE = {"label_models.fit_transition": 5e-3}
# What is left of its objective where it ends, near 0: rounding.
LEFT_OUT = ("label_models.fit_transition/2",)
# Those that need no file and take seconds in tiny form.
STUDIES = ("ldr_digits",)
# Times, and what follows from them.
TIMED = ("seconds", "examples_per_s", "ms", "time", "cpu")


def rooms(dtype: str) -> dict[str, np.ndarray]:
    """The answers of the functions in a dtype, by name and place."""
    found = {}
    with jax.enable_x64(dtype == "float64"):
        for name, call in CALLS.items():
            given = jax.tree.map(lambda leaf: _cast(leaf, dtype), call.arguments)
            if "rng" in given:
                given["rng"] = np.random.default_rng(0)
            for place, leaf in enumerate(jax.tree.leaves(call(**given))):
                if isinstance(leaf, jax.Array | np.ndarray | float | int):
                    leaf = np.asarray(leaf)
                    if leaf.dtype.kind in "biuf":
                        found[f"{dtype}/{name}/{place}"] = leaf
    return found


def _cast(leaf, dtype):
    is_floating = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(np.asarray(leaf), dtype) if is_floating else leaf


def curves(say: Callable[[dict], object] = bool) -> dict[str, list[dict[str, float]]]:
    """The rows of the studies in tiny form; `say` is told what there is after each."""
    from experiments import EXPERIMENTS, SWEEPS, is_generated
    from lnl_jax.runner import main
    from tests.test_commands import TINY

    found = {}
    for name in STUDIES:
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
            words = ["--results_dir", folder, "--compilation_cache", "none", "--exp", name]
            before, sys.stdout = sys.stdout, nowhere
            try:
                code = main(
                    EXPERIMENTS, SWEEPS, [*words, *TINY[name].split()], is_generated=is_generated
                )
            finally:
                sys.stdout = before
            assert code == 0, name
            (file,) = Path(folder).rglob("metrics.jsonl")
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            summary = json.loads(file.with_name("summary.json").read_text())
            rows += [row for table in summary["tables"].values() for row in table]
            found[name] = [_numbers(row) for row in rows]
            say(found)
    return found


def _numbers(row: dict) -> dict[str, float]:
    return {
        key: value
        for key, value in row.items()
        if isinstance(value, int | float) and not any(part in key for part in TIMED)
    }


def differences(found: dict[str, np.ndarray]) -> list[str]:
    """What the functions give otherwise than the file says."""
    lines = []
    with np.load(ROOMS) as expected:
        for key, value in found.items():
            if key.endswith(LEFT_OUT):
                continue
            if key not in expected.files:
                lines.append(f"{key} is not in {ROOMS.name}")
                continue
            # What computes in float32 whatever it is given is compared as such.
            single = value.dtype == np.float32 or key.startswith("float32")
            bound, wanted = BOUNDS["float32" if single else "float64"], expected[key]
            bound = max(bound, OTHERWISE.get(key.split("/")[1], 0))
            scale = np.nanmax(np.abs(wanted), initial=0, where=np.isfinite(wanted))
            if value.shape != wanted.shape or not np.allclose(
                value, wanted, rtol=bound, atol=bound * max(scale, 1e-3), equal_nan=True
            ):
                lines.append(f"{key}: {value.ravel()[:4]}, not {wanted.ravel()[:4]}")
    return lines


def differences_of_curves(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """What the studies give otherwise than the file says."""
    lines, expected = [], json.loads(CURVES.read_text())
    for name, rows in found.items():
        if len(rows) != len(expected[name]):
            lines.append(f"{name}: {len(rows)} rows, not {len(expected[name])}")
            continue
        for at, (row, wanted) in enumerate(zip(rows, expected[name], strict=True)):
            for key in wanted:
                given = row.get(key, np.nan)
                if not np.isclose(given, wanted[key], rtol=OF_CURVES, atol=1e-3, equal_nan=True):
                    lines.append(f"{name}, row {at}, {key}: {given}, not {wanted[key]}")
    return lines


def main() -> int:
    """Compares, or writes."""
    warnings.simplefilter("ignore")
    found = rooms("float64") | rooms("float32")
    if "--write" in sys.argv:
        np.savez_compressed(ROOMS, **found)
        print(f"JAX {jax.__version__}: {len(found)} answers written", flush=True)
        curves(lambda found: CURVES.write_text(json.dumps(found, indent=0) + "\n"))
        return 0
    lines = differences(found)
    trained = curves()
    lines += differences_of_curves(trained)
    for line in lines:
        print(line)
    rows = sum(map(len, trained.values()))
    print(
        f"JAX {jax.__version__}: {len(found)} answers of {len(CALLS)} functions and {rows} rows of "
        f"{len(trained)} studies compared, {len(lines)} differ"
    )
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
