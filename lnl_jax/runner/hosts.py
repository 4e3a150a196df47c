"""One run on several hosts: how their processes find each other, and what the first one tells all.

The processes of a run take the same steps in the same order, on the devices of all of them. The
first one alone has the folder of results; what is in it, it tells the others. JAX's own distributed
runtime connects them, and ends those whose peer is gone.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
import traceback
import typing
from argparse import Namespace
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from lnl_jax.runner.usage import UsageError

# JAX's own, in seconds.
INITIALIZATION_TIMEOUT, HEARTBEAT_TIMEOUT = 300, 100
# Who fails waits so long for others that fail alike, so that each of them says so.
SECONDS_TO_LEAVE = 5.0
# JAX gives up later than we do, and less gently.
SECONDS_LATER = 60
LARGEST_PART = 1 << 26
_ADDRESS = ("coordinator", "num_processes", "process_id")
_OPTIONS = (*_ADDRESS, "initialization_timeout", "heartbeat_timeout")
# What errors of XLA say when another process is gone or does not answer.
_GONE = ("gloo", "nccl", "unavailable", "aborted", "deadline", "connection", "heartbeat", "task")

_connected = False


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a run on several hosts."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of the processes of a run on several hosts, given the same command; detected on "
        "TPU pods, SLURM and GKE, or said by the next three",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", type=_address, help="where process 0 listens"
    )
    parser.add_argument("--num_processes", metavar="N", type=_from(1), help="how many there are")
    parser.add_argument("--process_id", metavar="I", type=_from(0), help="from 0 to N - 1")
    parser.add_argument(
        "--initialization_timeout",
        metavar="SECONDS",
        type=_from(1),
        help=f"to wait for the other processes (default: {INITIALIZATION_TIMEOUT})",
    )
    parser.add_argument(
        "--heartbeat_timeout",
        metavar="SECONDS",
        type=_from(1),
        help="after which a process that gives no sign of life is given up, and all others end "
        f"(default: {HEARTBEAT_TIMEOUT})",
    )


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        words = f"must be HOST:PORT with a port from 1 to 65535, got {text}"
        raise argparse.ArgumentTypeError(words)
    return text


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) < 1 << 31:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} on, got {text}")
        return int(text)

    return number


def check_options(options: Namespace) -> None:
    """Raises UsageError where options of several hosts do not fit together."""
    given = [name for name in _OPTIONS if getattr(options, name) is not None]
    if given and not options.distributed:
        raise UsageError(f"--{given[0]} belongs to --distributed, which was not given")
    missing = [name for name in _ADDRESS if name not in given]
    if 0 < len(missing) < len(_ADDRESS):
        there = next(name for name in _ADDRESS if name in given)
        raise UsageError(
            f"--{there} needs --{missing[0]}; without all of --coordinator, --num_processes and "
            "--process_id they are detected"
        )
    if not missing and options.process_id >= options.num_processes:
        raise UsageError(
            f"--process_id must be from 0 to {options.num_processes - 1}, one less than "
            f"--num_processes, got {options.process_id}"
        )


def connect(options: Namespace) -> None:
    """Finds the other processes, before anything asks for a device.

    Where the first process is not found in time, or others are not by it, the process ends.

    Raises:
        UsageError: if nobody listens where the first process should.
    """
    global _connected
    if not options.distributed or _connected:
        return
    timeout = options.initialization_timeout or INITIALIZATION_TIMEOUT
    until = time.monotonic() + timeout
    if options.process_id:
        _wait_for(options.coordinator, until, timeout)
    if not jax.distributed.is_initialized():
        # SIGTERM belongs to the runner, which saves the last state.
        jax.config.update("jax_enable_preemption_service", False)
        _initialize(options, until, timeout)
    _connected = True


def _wait_for(address: str, until: float, timeout: int) -> None:
    """Until somebody listens there."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= until:
                raise UsageError(
                    f"--coordinator {address} was not reached in {timeout} s ({error}); is process "
                    "0 running there?"
                ) from None
        time.sleep(0.1)


def _initialize(options: Namespace, until: float, timeout: int) -> None:
    """In a thread, so that a signal can end the waiting, and so can we: JAX aborts the process."""
    errors: list[Exception] = []

    def call() -> None:
        try:
            jax.distributed.initialize(
                options.coordinator,
                options.num_processes,
                options.process_id,
                initialization_timeout=timeout + SECONDS_LATER,
                heartbeat_timeout_seconds=options.heartbeat_timeout or HEARTBEAT_TIMEOUT,
            )
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if thread.is_alive() and time.monotonic() >= until:
            _end(2, f"error: --distributed: the other processes did not come in {timeout} s")
    if errors:
        words = " ".join(str(errors[0]).split())[:200]
        otherwise = (
            "" if options.coordinator else "; give --coordinator HOST:PORT and what it needs"
        )
        raise UsageError(f"--distributed: no other process was found ({words}){otherwise}")


def is_connected() -> bool:
    """Whether this process was told to look for others, and has found them."""
    return _connected


def are_several() -> bool:
    """Whether other processes take part."""
    return is_connected() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return not is_connected() or jax.process_index() == 0


def from_first(function: Callable[[], bytes]) -> bytes:
    """What a function returns in the first process, in all of them; it is called there alone.

    Raises:
        UsageError: in the others, if anything is raised there.
    """
    reply = b""
    if is_first():
        try:
            reply = b"=" + function()
        except Exception as error:
            # Others would wait for what does not come.
            _broadcast(f"!{error}".encode(errors="backslashreplace"))
            raise
    reply = _broadcast(reply)
    if reply.startswith(b"!"):
        raise UsageError(f"process 0 has failed: {reply[1:].decode()}")
    return reply[1:]


def _broadcast(data: bytes) -> bytes:
    # As bytes: sums over processes, by which it is done, would lose the sign of a zero.
    sizes = np.array(divmod(len(data), LARGEST_PART), np.uint32)
    whole, rest = map(int, multihost_utils.broadcast_one_to_all(sizes))
    size, parts = whole * LARGEST_PART + rest, []
    for first in range(0, size, LARGEST_PART):
        # A program for each power of two, not for each length.
        length = 1 << (min(size - first, LARGEST_PART) - 1).bit_length()
        part = np.zeros(length, np.uint8)
        own = np.frombuffer(data[first : first + length], np.uint8)
        part[: len(own)] = own
        parts.append(multihost_utils.broadcast_one_to_all(part).tobytes())
    return b"".join(parts)[:size]


def check_same(what: str, value: str) -> None:
    """Raises UsageError in all processes where one of them has another value than the first."""
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    found = multihost_utils.process_allgather(digest)
    if different := [index for index, one in enumerate(found) if (one != found[0]).any()]:
        raise UsageError(f"process {different[0]} has {what} than process 0")


def check_all_split_alike(options: Namespace) -> None:
    """Raises UsageError in all processes where one would run other programs than the first.

    They would wait for each other without an end, or add up what does not belong together.
    """
    if not are_several():
        return
    # Known to each without a word of the others, which could not be sent.
    found = collections.Counter(device.process_index for device in jax.devices())
    each = [found[index] for index in range(jax.process_count())]
    if len(set(each)) > 1:
        raise UsageError(f"--distributed: all processes must have as many devices, got {each}")
    for option in ("devices", "on_nan", "deterministic"):
        check_same(f"another --{option}", repr(getattr(options, option)))
    check_same("another precision, JAX_ENABLE_X64,", str(jax.config.read("jax_enable_x64")))


def says_a_peer_is_gone(error: Exception) -> bool:
    """Whether an error of XLA is about another process."""
    text = str(error).lower()
    return is_connected() and any(word in text for word in _GONE)


def name() -> str:
    """Before what one of several processes says on its own."""
    if not is_connected():
        return ""
    return f"process {jax.process_index()} of {jax.process_count()}: "


def end_process(code: int) -> int:
    """Ends a process that failed, so that others do not wait for it; returns the code otherwise."""
    if code and is_connected():
        leave(code)
    return code


def leave(code: int) -> typing.NoReturn:
    """Ends this process without waiting for those that have not failed."""
    # The shutdown waits for all.
    thread = threading.Thread(target=_shut_down, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_LEAVE)
    _end(code)


def _end(code: int, words: str = "") -> typing.NoReturn:
    if words:
        print(words, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _shut_down() -> None:
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()


def carried_out(function: Callable[[], int]) -> int:
    """The code of a command; 1 for an error of one of several processes, which is shown."""
    try:
        return function()
    except Exception:
        if not is_connected():
            raise
        traceback.print_exc()
        return 1
