"""The words of a command line: the options of `run.py` itself, and pairs for the experiment."""

import argparse
import contextlib
import math
import typing
from collections.abc import Callable, Sequence

from lnl_jax.runner import hosts
from lnl_jax.runner.saved_states import Every
from lnl_jax.runner.usage import UsageError


class Parser(argparse.ArgumentParser):
    """Whose errors are a UsageError."""

    def error(self, message: str) -> typing.NoReturn:
        """Raises it."""
        raise UsageError(message)


# argparse and not tyro: tyro cannot express keywords of a function chosen on the same line.
def parse_frame(
    argv: Sequence[str], program: str = "python run.py"
) -> tuple[argparse.Namespace, list[str], Callable[[], str]]:
    """Parses the options of `run.py` itself.

    Returns:
      Its options, the words left for the experiment, and a function that formats the help.
    """
    parser = Parser(
        prog=program,
        usage="%(prog)s --exp NAME [--argument VALUE ...]\n"
        "       %(prog)s --sweep NAME [--argument VALUE ...]\n       %(prog)s --list",
        description="Runs an experiment and keeps its results; the same command again resumes it.",
        allow_abbrev=False,
        add_help=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--exp", metavar="NAME", help="run this experiment")
    what.add_argument("--sweep", metavar="NAME", help="run every point of this sweep")
    what.add_argument("--list", action="store_true", help="list experiments and sweeps")
    parser.add_argument(
        "--results_dir", metavar="DIR", default="results", help="(default: results)"
    )
    parser.add_argument("--data_dir", metavar="DIR", help="data sets, for experiments that take it")
    parser.add_argument(
        "--compilation_cache",
        metavar="DIR",
        help="keeps compiled programs; none keeps none (default: in the user's cache)",
    )
    parser.add_argument(
        "--profile",
        metavar="N",
        type=_count,
        help="trace N epochs after the first one, or the only one, into the results folder",
    )
    parser.add_argument(
        "--checkpoint_every",
        metavar="N",
        type=_every,
        default=Every(),
        help="save the state after so many seconds, such as 60, or training steps, such as "
        "500steps, at the next point from which a run can go on (default: as often as takes 2%% "
        "of the time)",
    )
    parser.add_argument(
        "--on_nan",
        choices=("stop", "skip"),
        default="stop",
        help="where a loss, gradients or parameters are not finite: stop, or leave out that batch "
        "(default: stop)",
    )
    parser.add_argument(
        "--devices",
        metavar="N",
        type=_count,
        help="spread trainings over N devices: their batches, or the data sets of trainings at "
        "once (default: all where each gets at least 32 examples of a step, else one)",
    )
    parser.add_argument("--force", action="store_true", help="delete earlier results, start over")
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits each time on a GPU too, where some sums are slower then",
    )
    hosts.add_options(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.add_argument("--version", action="store_true", help="of this library and of JAX")
    parser.add_argument("-h", "--help", action="store_true", help="help, also for one experiment")
    options, words = parser.parse_known_args(argv)
    return options, words, parser.format_help


def _count(text: str) -> int:
    """A number of epochs or devices; argparse makes a line of the error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text}")
    return int(text)


def _every(text: str) -> Every:
    """How often states are saved."""
    number, steps = text.removesuffix("steps"), text.endswith("steps")
    with contextlib.suppress(ValueError):
        if steps and int(number) >= 1:
            return Every(steps=int(number))
        if not steps and 0 <= float(number) < math.inf:
            return Every(seconds=float(number))
    raise argparse.ArgumentTypeError(f"must be seconds, or steps such as 500steps, got {text}")


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Turns `--name value` and `--name=value` into a dict."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UsageError(f"expected --name value, got {word!r}")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"--{name} needs a value")
            value = rest.pop(0)
        if name in found:
            raise UsageError(f"--{name} is given twice")
        found[name] = value
    return found
