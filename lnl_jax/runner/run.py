"""Runs experiments and sweeps: command line -> function call -> results folder."""

import contextlib
import difflib
import errno
import functools
import inspect
import os
import pathlib
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.padding import Padding

import lnl_jax
from lnl_jax._extras import MissingExtra
from lnl_jax._signals import INTERRUPTED
from lnl_jax.runner import (
    command_line,
    frame,
    help_text,
    hosts,
    progress,
    run_folder,
    shared_results,
    signatures,
)
from lnl_jax.runner.arguments import StudyError, check_arguments, refused
from lnl_jax.runner.command_line import Call
from lnl_jax.runner.commands import Experiments, Sweeps
from lnl_jax.runner.compilation_cache import kept_programs
from lnl_jax.runner.data_fingerprint import fingerprints
from lnl_jax.runner.devices import over_devices
from lnl_jax.runner.files import write_file
from lnl_jax.runner.profiling import FOLDER as PROFILE
from lnl_jax.runner.profiling import traced
from lnl_jax.runner.results import PAGE, Results
from lnl_jax.runner.shared_results import SharedResults
from lnl_jax.runner.usage import UsageError, look_up
from lnl_jax.train import NotFiniteError, skip_not_finite

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class Studies(NamedTuple):
    """What a command may name; see `commands.main`."""

    experiments: Experiments
    sweeps: Sweeps
    is_generated: Callable[[Any], bool]
    program: str


def carry_out(studies: Studies, argv: Sequence[str]) -> int:
    """Carries out one command; returns the exit code."""
    debug = "--debug" in argv
    try:
        options, words, format_help = frame.parse_frame(argv, studies.program)
        hosts.check_options(options)
        with contextlib.nullcontext() if debug else _quiet():
            return _do(studies, options, words, format_help, argv)
    except KeyboardInterrupt:
        text = "interrupted; the same command goes on from the last checkpoint"
        return _fail(text, INTERRUPTED)
    except (UsageError, StudyError, MissingExtra) as error:
        return _fail(f"error: {error}", 2, debug=debug)
    except NotFiniteError as error:
        text = "the last state before it is kept"
        if options.on_nan == "stop":
            text += ", and with --on_nan skip the same command goes on"
        return _fail(f"error: {error} {text}", 1, debug=debug)
    except jax.errors.JaxRuntimeError as error:
        if not hosts.says_a_peer_is_gone(error):
            raise
        text = "another process is gone or does not answer; the same command goes on from the last"
        return _fail(f"error: {text} checkpoint ({str(error)[:150]})", 1, debug=debug)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = "the disk is full; what was written is readable, with more space the same command"
        return _fail(f"error: {text} resumes ({error})", 1, debug=debug)


def _do(
    studies: Studies,
    options: Namespace,
    words: Sequence[str],
    format_help: Callable[[], str],
    argv: Sequence[str],
) -> int:
    console = progress.make_console()
    if options.version:
        print(f"lnl_jax {lnl_jax.__version__}, JAX {jax.__version__}")
    elif options.exp is None and options.help:
        print(format_help())
    elif options.list:
        _list(console, studies)
    elif options.sweep is not None:
        return _sweep(console, studies, options, frame.pairs(words), argv)
    elif options.exp is None:
        raise UsageError(_hint(studies, words))
    else:
        experiment = look_up(studies.experiments, options.exp, "experiment")
        if options.help:
            print(help_text.describe(options.exp, experiment, studies.program))
            return 0
        call = _bound(experiment, frame.pairs(words))
        _run(_connected(console, options), studies, options.exp, call, options, argv)
    return 0


def _connected(console: Console, options: Namespace) -> Console:
    """Finds the other processes of a run; the first one alone speaks."""
    if options.deterministic:
        _order_of_sums_is_fixed()
    hosts.connect(options)
    hosts.check_all_split_alike(options)
    if not hosts.is_first():
        return Console(quiet=True)
    if hosts.is_connected():
        words = f"{jax.process_count()} processes, {jax.device_count()} devices"
        console.print(f"{words}; this is process 0, which writes and speaks")
    return console


def _hint(studies: Studies, words: Sequence[str]) -> str:
    """What is meant where neither experiment nor sweep is named."""
    for option, table in (("--exp", studies.experiments), ("--sweep", studies.sweeps)):
        for word in words:
            if close := difflib.get_close_matches(word, table, n=1):
                return f"give {option} {close[0]}, not {word} alone"
    return "give --exp NAME, --sweep NAME, --list or --help"


def _bound(experiment: Callable, overrides: Mapping[str, Any]) -> Call:
    """The arguments, read and within their ranges."""
    call = command_line.bind(experiment, overrides)
    check_arguments(experiment, call.arguments)
    return call


def _list(console: Console, studies: Studies) -> None:
    experiments, sweeps = studies.experiments.items(), studies.sweeps.items()
    for option, entries in (
        ("--exp", [(name, f, help_text.time_taken(f)) for name, f in experiments]),
        ("--sweep", [(name, f, f"of {exp}") for name, (exp, f) in sweeps]),
    ):
        for name, function, note in entries:
            entry = f"{option} {name}" + f" ({note})" * bool(note)
            console.print(progress.hanging(entry, console.width), soft_wrap=True)
            console.print(Padding(help_text.summary(function), (0, 0, 0, 4)))


def _sweep(
    console: Console,
    studies: Studies,
    options: Namespace,
    overrides: Mapping[str, str],
    argv: Sequence[str],
) -> int:
    """Runs every point of a sweep; a point that fails does not stop the others."""
    name, points = look_up(studies.sweeps, options.sweep, "sweep")
    experiment = look_up(studies.experiments, name, "experiment")
    calls = [_bound(experiment, point | overrides) for point in points()]
    console = _connected(console, options)
    varied = list(dict.fromkeys(key for call in calls for key in call.overrides))
    rows = []
    for i, call in enumerate(calls, 1):
        console.print(f"[{i}/{len(calls)}]", end=" ")
        try:
            summary = _run(console, studies, name, call, options, argv)
        # A folder that another process is writing, or data that one point lacks.
        except (UsageError, StudyError) as error:
            if hosts.is_connected():  # another process may not have met it
                raise
            _fail(f"error: {error}", 2, debug=options.debug)
        except OSError:
            raise
        except Exception:
            if hosts.is_connected():
                raise
            traceback.print_exc()
        else:
            rows.append({key: call.config.get(key) for key in varied} | (summary["last"] or {}))
    if rows:
        progress.table(console, options.sweep, rows)
    failed = len(calls) - len(rows)
    return _fail(f"error: {failed} of {len(calls)} runs failed", 1) if failed else 0


def _run(
    console: Console,
    studies: Studies,
    name: str,
    call: Call,
    options: Namespace,
    argv: Sequence[str],
) -> dict[str, Any]:
    """Runs one experiment or finds it finished; returns its summary."""
    experiment = studies.experiments[name]
    if options.data_dir is not None and not signatures.takes(experiment, "data_dir"):
        raise UsageError(f"{name} reads no data from --data_dir")
    path = run_folder.folder(options.results_dir, name, call.overrides)
    config = {"experiment": name, "arguments": call.config, "overrides": call.overrides}
    config |= {"data_dir": options.data_dir, "program": studies.program, "argv": argv}
    generated = [key for key, value in call.arguments.items() if studies.is_generated(value)]
    config |= {"generated_data": bool(generated)}
    with refused("--data_dir"):
        config |= {"data": fingerprints(options.data_dir, call.config)}
    code = _folder_of(experiment)
    every = options.checkpoint_every
    how = {"force": options.force, "code": code, "every": every}
    with shared_results.open_shared_results(path, config, **how) as opened:
        finished = opened.summary is not None
        console.print(f"{path}" + ": finished earlier, --force runs it again" * finished)
        if finished and opened.rows_were_changed():
            console.print(f"{path / 'metrics.jsonl'} was changed after the run had finished")
        for key in generated:
            console.print(f"generated data, not real: --{key} {call.config[key]}")
        if not finished:
            try:
                with kept_programs(options.compilation_cache):
                    _record(console, experiment, call, options, opened)
            except StudyError:
                opened.discard_if_empty()
                raise
        if not hosts.is_first():
            return opened.summary
        # A full disk may have kept an earlier session from it.
        if not finished or not (path / PAGE).exists():
            _write_page(path)
        for title, rows in opened.summary["tables"].items():
            progress.table(console, title, rows, kept_in=f"{title}.csv")
        if not opened.summary["tables"]:
            console.print(progress.numbers(opened.summary["last"]), soft_wrap=True)
        words = _where(path, opened.summary["seconds"])
        line = "   ".join(words)
        # A path is not broken, so that it can be copied.
        console.print(line if len(line) <= console.width else "\n".join(words), soft_wrap=True)
        return opened.summary


def _folder_of(experiment: Callable) -> pathlib.Path:
    """Where the code of a study stands."""
    code = getattr(inspect.unwrap(experiment), "__code__", None)
    return pathlib.Path(code.co_filename if code else ".").parent


def _order_of_sums_is_fixed() -> None:
    """On GPUs; elsewhere it is. Read when the first device is asked for."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags, DETERMINISTIC])


def _write_page(path: pathlib.Path) -> None:
    """The page of a run that has finished, beside its figures."""
    from lnl_jax.runner.report import report
    from lnl_jax.runner.saved_runs import find_runs

    write_file(path / PAGE, report(find_runs([path])).encode(errors="backslashreplace"))


def _where(path: pathlib.Path, seconds: float) -> list[str]:
    """The folder of a run, its figures and its page, each in words."""
    figures = sorted(file.name for file in path.glob("*.png"))
    words = [f"results: {path}, {progress.number(float(seconds))} s"]
    words += [f"figures: {', '.join(figures)}"] if figures else []
    words += [f"page: {PAGE}"] if (path / PAGE).exists() else []
    words += [f"profile: {PROFILE}"] if (path / PROFILE).exists() else []
    return words


def _record(
    console: Console,
    experiment: Callable,
    call: Call,
    options: Namespace,
    opened: Results | SharedResults,
) -> None:
    """Calls the experiment and writes all that it yields."""
    say = functools.partial(console.print, soft_wrap=True)
    resume = opened.start(resumable=signatures.takes(experiment, "resume"), say=say)
    if resume.rows:
        console.print(f"resuming after epoch {resume.rows[-1].get('epoch', len(resume.rows))}")
    handed = {"resume": resume, "data_dir": options.data_dir}
    handed = {key: v for key, v in handed.items() if signatures.takes(experiment, key)}
    name, epochs = experiment.__name__, call.arguments.get("epochs")
    finished = resume.rows[-1].get("epoch", 0) if resume.rows else 0
    single = epochs is not None and epochs - finished == 1
    profiled = options.profile if hosts.is_first() else None
    with (
        progress.progress(console, name, epochs, resume.rows) as update,
        traced(opened.path, profiled, at_once=single, say=say) as look,
    ):

        def show(row: dict[str, Any]) -> None:
            update(row)
            look(row)

        with skip_not_finite(options.on_nan == "skip"), over_devices(options.devices, say):
            opened.write_all(experiment(**call.arguments, **handed), show, say)
        opened.finish()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Orbax and its libraries log away from the user; their errors are raised anyway."""
    import absl.logging

    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.FATAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(orbax|tensorstore|etils|flax)\b")
            # What cannot be kept, or read again, is compiled.
            warnings.filterwarnings("ignore", message="Error (reading|writing) persistent comp")
            yield
    finally:
        absl.logging.set_verbosity(verbosity)


def _fail(message: str, code: int, *, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    print(hosts.name() + " ".join(message.split()), file=sys.stderr)
    return code
