"""The same numbers tomorrow: of every room's functions, and of a few steps of the studies.

    python -m tests.golden_curves [--write] [--studies NAME,NAME]

compares them with `golden/rooms.npz` and `golden/curves.json`, or writes these; with studies those
alone. Functions are compared in float64 to 1e-11 and in float32 to 2e-5 (relative, or of the
largest number of an answer); curves, which float32 and its sums carry through training, to 1%,
gains and deviations to 1% of what they are differences of. The versions of JAX differ in the order
of their sums, not in more.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests import small_sets
from tests.properties.calls import CALLS

GOLDEN = Path(__file__).parent / "golden"
ROOMS, CURVES = GOLDEN / "rooms.npz", GOLDEN / "curves.json"
BOUNDS = {"float64": 1e-11, "float32": 2e-5}
OF_CURVES = 0.01
# Of numbers of nearly the same size, where one example makes much of little.
DIFFERENCES, QUOTIENTS = ("std", "gain"), ("s.e.",)
# Its descent of a loss with edges ends where rounding leaves it.
OTHERWISE = {"label_models.fit_transition": 5e-3}
# They compute in float32, and give float64 where that is what they are given.
OTHERWISE |= dict.fromkeys(("evaluation.knn_scores", "evaluation.zero_shot_scores"), 2e-5)
# What is left of its objective where it ends, near 0: rounding.
LEFT_OUT = ("label_models.fit_transition/2",)
# What is made up for studies whose data are downloaded.
ON_MADE_UP = {
    "hello_cifar": "",
    "isogclr_cifar": "--dataset cifar10",
    "ldr_benchmark": "",
    "ldr_cifar": "--dataset cifar10",
    "ldr_cifarn": "",
    "ldr_letter": "",
}
STUDIES_LEFT_OUT = {
    "hello_imagenet": "a folder of JPEGs, which versions of Pillow decode otherwise",
    "isogclr_cc3m": "a folder of JPEGs, which versions of Pillow decode otherwise",
    "label_budget": "a few steps on fifty rows leave networks at chance, where rounding decides",
    "ldr_ranks": "trains nothing, reads the results of other studies",
}
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


def studies() -> list[str]:
    """Those whose rows are compared: all but those that are left out."""
    from experiments import EXPERIMENTS

    return [name for name in EXPERIMENTS if name not in STUDIES_LEFT_OUT]


def curves(names: Sequence[str]) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """The names of studies, and the rows of their tiny form: epochs, then tables."""
    from experiments import EXPERIMENTS, SWEEPS, is_generated
    from lnl_jax.runner import main
    from tests.test_commands import TINY

    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        made_up = Path(folder) / "made_up"
        small_sets.write(made_up)
        for name in names:
            words = ["--results_dir", f"{folder}/{name}", "--exp", name, *TINY[name].split()]
            if name in ON_MADE_UP:
                words += ["--data_dir", str(made_up), *ON_MADE_UP[name].split()]
            with contextlib.redirect_stdout(nowhere), _quickly_compiled():
                code = main(EXPERIMENTS, SWEEPS, words, is_generated=is_generated)
            assert code == 0, name
            (file,) = (Path(folder) / name).rglob("metrics.jsonl")
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            summary = json.loads(file.with_name("summary.json").read_text())
            rows += [row for table in summary["tables"].values() for row in table]
            yield name, [_numbers(row) for row in rows]


@contextlib.contextmanager
def _quickly_compiled() -> Iterator[None]:
    """Compiling is nearly all of the time of studies as small as these."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


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
        of_study = expected.get(name, [])
        if len(rows) != len(of_study):
            lines.append(f"{name}: {len(rows)} rows, not {len(of_study)}")
            continue
        for at, (row, wanted) in enumerate(zip(rows, of_study, strict=True)):
            for key in wanted:
                if any(part in key for part in QUOTIENTS):
                    continue
                given, bound = row.get(key, np.nan), max(OF_CURVES * _terms(key, wanted), 1e-3)
                if not np.isclose(given, wanted[key], rtol=OF_CURVES, atol=bound, equal_nan=True):
                    lines.append(f"{name}, row {at}, {key}: {given}, not {wanted[key]}")
    return lines


def _terms(key: str, row: dict[str, float]) -> float:
    """How large the numbers are that this one is a difference of; 0 where it is none."""
    if not any(part in key for part in DIFFERENCES):
        return 0
    values = {
        name: abs(value)
        for name, value in row.items()
        if not any(part in name for part in DIFFERENCES)
    }
    of = key.removeprefix("std of ")
    shares = [value for name, value in values.items() if "accuracy" in name or "%" in name]
    return values[of] if of in values else max(shares, default=0)


def main() -> int:
    """Compares, or writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--studies", help="these alone, and no functions")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    answers = {} if options.studies else rooms("float64") | rooms("float32")
    lines = [] if options.write else differences(answers)
    if options.write and answers:
        np.savez_compressed(ROOMS, **answers)
    trained, began = {}, time.process_time()
    for name, rows in curves(options.studies.split(",") if options.studies else studies()):
        trained[name] = rows
        lines += [] if options.write else differences_of_curves({name: rows})
        seconds, began = time.process_time() - began, time.process_time()
        print(f"{name}: {len(rows)} rows, {seconds:.0f} s of processor time", flush=True)
        if options.write:
            kept = json.loads(CURVES.read_text()) if CURVES.exists() else {}
            text = json.dumps(dict(sorted((kept | trained).items())), indent=0)
            CURVES.write_text(text + "\n")
    for line in lines:
        print(line)
    count = sum(map(len, trained.values()))
    print(
        f"JAX {jax.__version__}: {len(answers)} answers of {len(CALLS)} functions and {count} rows "
        f"of {len(trained)} studies {'written' if options.write else 'compared'}, {len(lines)} "
        "differ"
    )
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
