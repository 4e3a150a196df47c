"""How soon a study trains: from the end of its imports to its first step, cold and started again.

python benchmarks/second_start.py [--repeat 3] [--profile FILE] [OPTIONS OF THE STUDY]

Runs `ldr_cifar --dataset shapes32 --epochs 1`, or with what else is given, in fresh processes that
end with their first step: at first with an empty folder of compiled programs, then with the folder
that this left. Prints wall and processor time of both, and their ratio.
"""

import argparse
import contextlib
import cProfile
import json
import os
import pathlib
import runpy
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
COMMAND = ROOT / "experiments/run.py"
STUDY = ("--exp", "ldr_cifar", "--dataset", "shapes32", "--epochs", "1")


class FirstStep(BaseException):
    """Ends a study where it has taken a step."""


class Ending:
    """A compiled function that ends the study after its first call."""

    def __init__(self, function):
        self._function, self.lower = function, function.lower

    def __call__(self, *arguments):
        """Waits for the call, and ends."""
        import jax

        jax.block_until_ready(self._function(*arguments))
        raise FirstStep


def until_the_first_step(words: list[str], profile: str | None) -> dict[str, float]:
    """Of this process, which has imported nothing yet: wall and processor seconds."""
    from lnl_jax import runner
    from lnl_jax.train import loop

    loop._dispatch, loop._scan = Ending(loop._dispatch), Ending(loop._scan)
    profiler, found, main = cProfile.Profile(), {}, runner.main

    def timed(*arguments, **options):
        # The command calls it once it has imported all studies.
        wall, processor = time.perf_counter(), time.process_time()
        if profile is not None:
            profiler.enable()
        try:
            return main(*arguments, **options)
        finally:
            profiler.disable()
            found["wall"] = time.perf_counter() - wall
            found["processor"] = time.process_time() - processor

    runner.main, sys.argv = timed, [str(COMMAND), *words]
    with contextlib.suppress(FirstStep):
        runpy.run_path(str(COMMAND), run_name="__main__")
    if profile is not None:
        profiler.dump_stats(profile)
    return found


def start(words: list[str], cache: str, *options: str) -> dict[str, float]:
    """The same of a fresh process."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, __file__, "--child", *options, *STUDY, *words]
        command += ["--results_dir", results, "--compilation_cache", cache]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", help="a file for cProfile's account of the last start")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options, words = parser.parse_known_args()
    if options.child:
        print(json.dumps(until_the_first_step(words, options.profile)))
        return
    profile = ("--profile", options.profile) if options.profile else ()
    cold, again = [], []
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(start(words, cache))
            again.append(start(words, cache, *profile))
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}")
    for kind in ("wall", "processor"):
        first, second = (statistics.mean(one[kind] for one in found) for found in (cold, again))
        print(
            f"{kind} time to the first step: {first:.2f} s, started again {second:.2f} s, "
            f"{first / second:.1f} times sooner"
        )


if __name__ == "__main__":
    main()
