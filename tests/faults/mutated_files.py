"""Files that went bad, or were made to do harm, through every reader: one line each, or it is read.

python -m tests.faults.mutated_files [COUNT] [SEED]
"""

import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.faults.mutated_forms import FORMS, png

# A reader may take so long: of the processor, and of the clock where others use that too.
BUSY, SECONDS = 10, 60
LONG = "x" * 200_000
VALUES = [
    None, True, 0, -1, 1, 2**40, 10**30, 1.5, 1e308, float("nan"), "", "text", "../../x", [], {},
    [[]], [0], ["a"], {"a": 1}, "\ud800", "model.safetensors.index.json",
]  # fmt: skip
FIELDS = [
    "", "nan", "inf", "1e999", "-1", "9" * 5000, LONG, '"', '"a\nb', "../../../etc/passwd",
    "/dev/zero", "\0", "\ufeff", "a\tb;c,d", "'; drop", "\u202e", "None",
]  # fmt: skip


class Outcome(NamedTuple):
    """What became of the files.

    Attributes:
        read: how many were read in spite of the change.
        refused: how many were refused in a line that names the file.
        faults: what else happened, a text for each.
        seconds: that the slowest took.
        megabytes: by which the memory of the process grew.
    """

    read: int
    refused: int
    faults: tuple[str, ...]
    seconds: float
    megabytes: float


class Hang(BaseException):
    """No reader is meant to catch it."""


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def flip(path, rng, marker):
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def flip_head(path, rng, marker):
    """Where the sizes stand."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 2, 4])):
        if content:
            content[rng.randrange(min(len(content), 200))] = rng.randrange(256)
    path.write_bytes(content)


def cut(path, rng, marker):
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def grow(path, rng, marker):
    content = path.read_bytes()
    at = rng.randrange(len(content) + 1)
    path.write_bytes(content[:at] + rng.randbytes(rng.choice([1, 7, 5000])) + content[at:])


def double(path, rng, marker):
    path.write_bytes(path.read_bytes() * 2)


def extreme(path, rng, marker):
    """A number becomes as large as it can be."""
    content = bytearray(path.read_bytes())
    size, byte = rng.choice([2, 4, 8]), rng.choice([b"\xff", b"\x00", b"\x7f", b"9"])
    at = rng.randrange(max(len(content) - size, 1))
    content[at : at + size] = byte * size
    path.write_bytes(content)


def digits_grow(path, rng, marker):
    """Digits of a header in text become others: shapes, sizes and numbers of layers."""
    content = bytearray(path.read_bytes())
    places = [at for at, byte in enumerate(content[:4000]) if 48 <= byte < 58]
    for at in rng.sample(places, min(len(places), rng.choice([1, 3, 20]))):
        content[at] = rng.choice(b"0123456789-e")
    path.write_bytes(content)


def empty(path, rng, marker):
    path.write_bytes(b"")


def noise(path, rng, marker):
    path.write_bytes(rng.randbytes(rng.choice([1, 100, 10_000])))


def harm(path, rng, marker):
    path.write_bytes(pickle.dumps(Harm(str(marker))))


def harm_inside(path, rng, marker):
    """A pickle as an array of objects, as NumPy stores it."""
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    head += b" " * (117 - len(head)) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    content += pickle.dumps(Harm(str(marker)))
    if path.suffix == ".npy":
        path.write_bytes(content)
        return
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x_train.npy", content)


def bomb(path, rng, marker):
    """An array of 10^12 numbers, told of or packed."""
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    head += b" " * (117 - len(head)) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for key in ("x_train", "annotations", "clean_label", "logits", "features"):
            file.writestr(f"{key}.npy", content + bytes(rng.choice([0, 1000, 1 << 20])))


def locked(path, rng, marker):
    """The members of a zip file say that they are encrypted."""
    content = path.read_bytes()
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(mark)
        content = mark.join(
            part if not place else part[: at - 4] + bytes([part[at - 4] | 1]) + part[at - 3 :]
            for place, part in enumerate(parts)
        )
    path.write_bytes(content)


def pixels(path, rng, marker):
    """A picture of few bytes and 144 million points."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "png")
    path.write_bytes(file.getvalue())


def program(path, rng, marker):
    """PostScript, for which Pillow would start another program."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def escapes(path, rng, marker):
    """Members with names that lead out of the folder, links and an immense size."""
    import tarfile

    with tarfile.open(path, "w:gz" if path.name.endswith(".gz") else "w") as file:
        for name in ("../../out.txt", "/tmp/out.png", "a.txt", "b.json", "c.png"):
            info = tarfile.TarInfo(name)
            info.type = rng.choice([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
            info.linkname = rng.choice(["/dev/zero", "a.txt", "../.."])
            content = rng.choice([b"", b"a caption", png()])
            info.size = len(content) if info.isreg() else 0
            file.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("huge.txt")
        info.size = 5 << 30
        if not path.name.endswith(".gz"):
            file.fileobj.write(info.tobuf())
            file.offset = file.fileobj.tell()


def pipe(path, rng, marker):
    path.unlink()
    os.mkfifo(path)


def device(path, rng, marker):
    path.unlink()
    path.symlink_to("/dev/zero")


def loop(path, rng, marker):
    path.unlink()
    path.symlink_to(path.name)


def a_folder(path, rng, marker):
    path.unlink()
    path.mkdir()


def gone(path, rng, marker):
    path.unlink()


def value(path, rng, marker):
    """Something else at a random place of a JSON file, or of a line of one."""
    text = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = rng.randrange(max(len(text), 1))
    try:
        tree = {"": json.loads(text[at])}
    except (ValueError, IndexError):
        return noise(path, rng, marker)
    node, key = tree, ""
    while isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
        node = node[key]
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    if isinstance(node, dict) and key and rng.random() < 0.2:
        del node[key]
    else:
        node[key] = rng.choice(VALUES)
    text[at] = json.dumps(tree[""])
    path.write_text("\n".join(text) + "\n" * (path.suffix == ".jsonl"))
    return None


def deep(path, rng, marker):
    path.write_text("[" * 100_000 + "]" * 100_000)


def cell(path, rng, marker):
    """Something else in a field of a table."""
    mark = "\t" if path.suffix == ".tsv" else ","
    rows = [line.split(mark) for line in path.read_text().splitlines()] or [[""]]
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice(FIELDS)
    path.write_bytes("\n".join(map(mark.join, rows)).encode("utf-8", "surrogatepass"))


ANY = (flip, flip_head, cut, grow, double, extreme, digits_grow, empty, noise, harm)
ANY += (pipe, device, loop, a_folder, gone)
BY_ENDING = {
    ".npz": (harm_inside, bomb, locked, flip, flip_head) * 2,
    ".npy": (harm_inside, flip_head, digits_grow) * 2,
    ".json": (value, value, value, deep) * 4,
    ".jsonl": (value, value, deep) * 4,
    ".csv": (cell, cell) * 4,
    ".tsv": (cell, cell) * 4,
    ".txt": (cell,) * 4,
    ".png": (pixels, program) * 2,
    ".jpg": (pixels, program) * 2,
    ".tar": (escapes, flip, digits_grow) * 3,
    ".gz": (escapes, flip) * 2,
    ".zip": (bomb, locked, escapes, flip, flip_head) * 2,
    ".bz2": (bomb, flip) * 2,
    ".pth": (flip, flip_head) * 3,
    ".safetensors": (digits_grow, flip_head) * 3,
}


def mutated_files(count: int, seed: int) -> Outcome:
    """Changes one file of a small whole set at random and reads the set, again and again.

    Args:
        count: how often; the kinds of files take turns.
        seed: of the changes.

    Returns:
        The `Outcome`. It is a fault where a reader raises anything but `ValueError` or
        `FileNotFoundError`, where their message has several lines or does not name the file, where
        it takes longer than 10 s of the processor, warns, runs what a file holds, or writes or
        removes a file.
    """
    rng = random.Random(seed)
    read, refused, faults, slowest = 0, 0, [], 0.0
    with tempfile.TemporaryDirectory() as place, _on_time():
        for name in FORMS:
            _whole(Path(place, "whole", name), name)
        before = _memory()
        for at in range(count):
            name = list(FORMS)[at % len(FORMS)]
            folder = Path(place, "mutated")
            shutil.copytree(Path(place, "whole", name), folder)
            path, change = _changed(folder, rng, Path(place, "marker"))
            start = time.perf_counter()
            fault, was_refused = _outcome(name, folder)
            slowest = max(slowest, time.perf_counter() - start)
            if Path(place, "marker").exists():
                fault = "the file was executed"
                Path(place, "marker").unlink()
            if fault:
                what = f"{name}, {path.relative_to(folder)}, {change.__name__}"
                faults.append(f"{what} (number {at}): {fault}")
            refused, read = refused + was_refused, read + (not was_refused and not fault)
            shutil.rmtree(folder)
        grown = _memory() - before
    return Outcome(read, refused, tuple(faults), slowest, grown)


def _whole(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    FORMS[name].make(folder)
    # What is whole is read, or nothing is learned from what is not.
    FORMS[name].read(folder)


def _changed(folder: Path, rng: random.Random, marker: Path):
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    changes = (*ANY, *BY_ENDING.get(path.suffix, ()))
    while True:
        change = rng.choice(changes)
        with contextlib.suppress(UnicodeDecodeError):
            change(path, rng, marker)
            return path, change


def _outcome(name: str, folder: Path) -> tuple[str, bool]:
    """What is wrong, if anything, and whether the file was refused."""
    there = _listing(folder)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    signal.setitimer(signal.ITIMER_PROF, BUSY)
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("error")
            FORMS[name].read(folder)
        fault, was_refused = "", False
    except (ValueError, FileNotFoundError) as error:
        fault, was_refused = _of_message(str(error), folder, error), True
    except Hang:
        fault, was_refused = f"longer than {BUSY} s", False
    except BaseException:
        fault, was_refused = traceback.format_exc(), False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if not fault and _listing(folder) != there and not name.endswith("features"):
        fault = f"files changed: {_listing(folder) ^ there}"
    if not fault and printed.getvalue():
        fault = f"printed {printed.getvalue()!r}"
    return fault, was_refused and not fault


def _of_message(message: str, folder: Path, error: Exception) -> str:
    if "\n" in message or len(message) > 5_000:
        return f"a message of several lines, or of many: {message[:2000]!r}"
    if str(folder) not in message:
        return f"a message that does not name the file: {message!r}" + "".join(
            traceback.format_exception(error)[-4:]
        )
    return ""


def _listing(folder: Path) -> set:
    return {(str(path), path.is_dir()) for path in folder.rglob("*")}


@contextlib.contextmanager
def _on_time():
    def stop(*_):
        raise Hang

    former = {each: signal.signal(each, stop) for each in (signal.SIGALRM, signal.SIGPROF)}
    try:
        yield
    finally:
        for each, action in former.items():
            signal.signal(each, action)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Prints what became of the files."""
    count, seed = (int(word) for word in (*sys.argv[1:], *("500", "0")[len(sys.argv) - 1 :]))
    found = mutated_files(count, seed)
    for fault in found.faults:
        print(fault)
    for kind, number in Counter(fault.split(",")[0] for fault in found.faults).items():
        print(f"{number} faults of {kind}")
    print(
        f"{count} mutated files: {found.read} read, {found.refused} refused in a line, "
        f"{len(found.faults)} faults; the slowest took {found.seconds:.1f} s, the memory grew by "
        f"{found.megabytes:.0f} MB"
    )
    return bool(found.faults)


if __name__ == "__main__":
    sys.exit(main())
