"""The folder of one run: its name, its lock, and the configuration that it belongs to."""

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from lnl_jax.runner.files import read_file, remove, write_json
from lnl_jax.runner.usage import UsageError, as_text

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "flax", "orbax-checkpoint", "lnl-jax")


def folder(results_dir: str, experiment: str, overrides: Mapping[str, Any]) -> pathlib.Path:
    """The folder of a run: `results_dir/experiment/`, then its overrides or a hash of them."""
    name = ",".join(f"{k}={as_text(v)}" for k, v in sorted(overrides.items())) or "default"
    # File systems count bytes.
    if len(name.encode()) > 100 or "/" in name:
        name = hashlib.sha256(name.encode()).hexdigest()[:12]
    return pathlib.Path(results_dir) / experiment / name


def make_folder(path: pathlib.Path) -> None:
    """Makes it unless it is there; raises UsageError where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"--results_dir: no folder can be made at {path} ({error})") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"--results_dir: {path} may not be written to")


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Keeps the folder for this process; raises UsageError where another one has it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"another process is writing {path}") from None
    finally:
        os.close(descriptor)


def clear(path: pathlib.Path) -> None:
    """Deletes what is in it; of a link the link."""
    for entry in path.iterdir():
        remove(entry)


def record_config(path: pathlib.Path, config: dict[str, Any], code: pathlib.Path) -> None:
    """Writes `config.json`, or adds this session to that of an earlier one.

    Args:
      path: the folder.
      config: JSON values; its `arguments` and `data` must be those of the earlier session.
      code: a folder of the code that runs, whose version is written down.

    Raises:
      UsageError: if they are not, or if the file cannot be read.
    """
    file = path / "config.json"
    if not os.path.lexists(file):
        write_json(file, config | _environment(code))
        return
    earlier = read_json(file)
    _check_same(path, "configuration", earlier.get("arguments", {}), config["arguments"])
    # Older versions wrote none.
    _check_same(path, "data", earlier.get("data", config.get("data", {})), config.get("data", {}))
    if not (path / "summary.json").exists():
        session = {"argv": config["argv"]} | _environment(code)
        sessions = [*earlier.get("resumed", []), session]
        write_json(file, earlier | {"resumed": sessions})


def read_json(file: pathlib.Path, otherwise: str = "--force starts over") -> dict[str, Any]:
    """A JSON object that a run wrote; raises UsageError for anything else, with what to do."""
    try:
        value = json.loads(read_file(file))
    except ValueError as error:
        raise UsageError(f"{file} is not JSON ({error}); {otherwise}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error}); {otherwise}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{file} is not what a run writes; {otherwise}")
    return value


def _check_same(
    path: pathlib.Path, what: str, earlier: dict[str, Any], present: dict[str, Any]
) -> None:
    different = [
        f"{name} {as_text(earlier.get(name, 'absent'))} there and "
        f"{as_text(present.get(name, 'absent'))} here"
        for name in sorted({*earlier, *present})
        if earlier.get(name, "absent") != present.get(name, "absent")
    ]
    if different:
        raise UsageError(
            f"{path} holds another {what}: {'; '.join(different)}; --force starts over"
        )


def _environment(code: pathlib.Path) -> dict[str, Any]:
    versions = {package: _version(package) for package in PACKAGES}
    device = jax.devices()[0]
    return {
        "git": _git_version(code),
        "versions": {"python": platform.python_version()} | versions,
        "device": {
            "kind": device.device_kind,
            "count": jax.device_count(),
            "platform": device.platform,
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_version(code: pathlib.Path) -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
