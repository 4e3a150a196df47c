"""What importing the losses costs beyond importing JAX, each in fresh interpreters, interleaved.

python benchmarks/import_time.py [--runs 7] [--json FILE]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

STATEMENTS = ("import jax", "import lnl_jax.losses")


def seconds(statement: str) -> float:
    """The wall time of a fresh interpreter that runs one statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Reads the options, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=pathlib.Path, help="file to write the numbers to")
    options = parser.parse_args()
    runs = options.runs
    fastest = dict.fromkeys(STATEMENTS, float("inf"))
    for _ in range(runs):
        for statement in STATEMENTS:
            fastest[statement] = min(fastest[statement], seconds(statement))
    for statement, time_taken in fastest.items():
        print(f"{statement:24s} {time_taken:6.2f} s")
    jax_alone, with_losses = fastest.values()
    print(f"{'difference':24s} {with_losses - jax_alone:6.2f} s, fastest of {runs}")
    if options.json:
        record = {"command": "python benchmarks/import_time.py", "runs": runs}
        record |= {"cores": len(os.sched_getaffinity(0)), "seconds": fastest}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
