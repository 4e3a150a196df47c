"""What checkpoints cost: python benchmarks/checkpoints.py.

Of a state of so many megabytes: how long a training waits for a save, and what share of its time
that is at one save a minute. Of a study: the time from the start of the process to the first row,
at first and where it goes on from a checkpoint.
"""

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import train

ROOT = pathlib.Path(__file__).parents[1]
STUDY = "--exp ldr_digits --epochs 300 --seeds 2 --learning_rates 0.1 --temperatures 1.0 --qs 0.7"


def waits(megabytes: int, saves: int = 5) -> list[float]:
    """Seconds that a training waits for each save of such a state, with a pause between them."""
    rows = megabytes * 1_000_000 // 4 // 1_000
    random = np.random.default_rng(0).normal(size=(rows, 1_000)).astype(np.float32)
    state = {"params": jnp.asarray(random), "key": jax.random.key(0)}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        manager = train.open_checkpoints(folder)
        for step in range(1, saves + 2):
            began = time.perf_counter()
            train.save(manager, step, state, {"rows": step})
            found.append(time.perf_counter() - began)
            manager.wait_until_finished()
        manager.close()
    return found[1:]  # the first one starts Orbax's threads


def seconds_to_a_row(results: str, cache: str, rows: int) -> float:
    """From the start of a process to its first new row beyond so many; it is killed then."""
    began = time.perf_counter()
    words = [*STUDY.split(), "--results_dir", results, "--compilation_cache", cache]
    process = subprocess.Popen(
        [sys.executable, "experiments/run.py", *words, "--checkpoint_every", "0.2"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    while _rows(results) <= rows:
        if process.poll() is not None:
            raise RuntimeError("the study ended before its next row")
        time.sleep(0.005)
    took = time.perf_counter() - began
    if rows:
        process.send_signal(signal.SIGKILL)
    else:
        # Some more rows and a checkpoint of them, which a signal brings about.
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
    process.wait()
    return took


def _rows(results: str) -> int:
    files = list(pathlib.Path(results).glob("*/*/metrics.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else -1


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="*", default=(1, 50, 200))
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}, {jax.devices()[0]}")
    for size in options.megabytes:
        found = waits(size)
        mean, spread = statistics.mean(found), statistics.stdev(found)
        print(
            f"{size} MB: a save holds the training up for {mean:.3f} ± {spread:.3f} s, "
            f"{100 * mean / 60:.2f}% at one a minute"
        )
    for kept in (False, True) if options.repeat else ():
        cold, again = [], []
        for _ in range(options.repeat):
            with tempfile.TemporaryDirectory() as results, tempfile.TemporaryDirectory() as cache:
                programs = cache if kept else "none"
                cold.append(seconds_to_a_row(results, programs, 0))
                before = _rows(results)
                again.append(seconds_to_a_row(results, programs, before))
        ratio = statistics.mean(again) / statistics.mean(cold)
        words = "programs kept" if kept else "no programs kept"
        print(
            f"ldr_digits, {words}: first row after {statistics.mean(cold):.1f} s, after an "
            f"interruption the next one after {statistics.mean(again):.1f} s, {ratio:.2f} times"
        )


if __name__ == "__main__":
    main()
