"""Every fault that a run must survive, counted: python -m tests.faults.run_all.

With the defaults these are the full counts, some two hours of two CPU cores; `--kills 2` is a
sample of a few minutes. The exit code is 1 where anything came out otherwise than it should.
"""

import argparse
import os
import pathlib
import random
import sys
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from tests.faults import faults, kills, sessions, two_hosts  # noqa: E402


def main() -> int:
    """Runs what is chosen and prints a line for each count."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=30, help="runs that are killed, a pillar")
    parser.add_argument("--pillars", nargs="*", choices=sessions.STUDIES, default=None)
    parser.add_argument("--faults", nargs="*", choices=faults.FAULTS, default=None)
    parser.add_argument("--repeat", type=int, default=5, help="of faults with a random moment")
    parser.add_argument("--hosts", type=int, default=1, help="0 leaves two processes out")
    parser.add_argument("--files", type=int, default=500, help="files that are changed and read")
    parser.add_argument("--commands", type=int, default=1000, help="command lines in one process")
    parser.add_argument("--processes", type=int, default=30, help="of command lines of their own")
    parser.add_argument("--examples", type=int, default=20_000, help="of arguments and values")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began, wrong = time.perf_counter(), []
    pillars = list(sessions.STUDIES) if options.pillars is None else options.pillars
    rng = random.Random(options.seed)
    for pillar in pillars if options.kills else ():
        with tempfile.TemporaryDirectory() as folder:
            found = kills.kill_and_compare(pillar, options.kills, pathlib.Path(folder), rng)
        wrong += found.wrong
        print(
            f"{pillar}: {found.equal} of {found.count} killed runs equal to the uninterrupted one, "
            f"{found.rows} rows lost or doubled",
            flush=True,
        )
    for name in faults.FAULTS if options.faults is None else options.faults:
        with tempfile.TemporaryDirectory() as folder:
            found = faults.FAULTS[name](pathlib.Path(folder), rng, options.repeat)
        wrong += [f"{name}: {text}" for text in found.wrong]
        print(f"{name}: {found.right} of {found.count} right", flush=True)
    if options.hosts:
        with tempfile.TemporaryDirectory() as folder:
            both = list(two_hosts.STUDIES), list(two_hosts.FAULTS)
            wrong += [f"two hosts: {x}" for x in two_hosts.two_hosts(*both, pathlib.Path(folder))]
    wrong += _bad_input(options)
    print(*wrong, sep="\n", end="\n" * bool(wrong))
    print(f"{len(wrong)} wrong, {time.perf_counter() - began:.0f} s")
    return 1 if wrong else 0


def _bad_input(options: argparse.Namespace) -> list[str]:
    """Changed files, command lines and arguments at random; returns what went wrong."""
    from tests.faults import mutated_files, random_commands
    from tests.properties import run_all as properties

    wrong = []
    if options.files:
        found = mutated_files.mutated_files(options.files, options.seed)
        wrong += found.faults
        print(
            f"{options.files} mutated files: {found.read} read, {found.refused} refused in a line, "
            f"{len(found.faults)} faults; the slowest took {found.seconds:.1f} s, the memory grew "
            f"by {found.megabytes:.0f} MB",
            flush=True,
        )
    for kind, count, run in (
        ("in one process", options.commands, random_commands.random_commands),
        ("in processes of their own", options.processes, random_commands.random_processes),
    ):
        if count:
            found = run(count, options.seed)
            wrong += found.faults
            print(
                f"{count} command lines {kind}: {found.refused} refused, {found.done} done, "
                f"{found.begun} begun, {len(found.faults)} faults",
                flush=True,
            )
    if options.examples:
        found = properties.properties(options.examples, options.seed)
        wrong += found["faults"]
        print(
            f"{found['arguments']} wrong arguments and {found['values']} examples of values: "
            f"{len(found['faults'])} faults",
            flush=True,
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
