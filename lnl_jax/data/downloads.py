"""Downloads of known files: they go on where they stopped, and are compared with a checksum."""

import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from lnl_jax._extras import require

# Seconds: an answer that takes longer does not come. A server may pause for longer than that once
# it has begun to send.
TO_ANSWER = 5
TO_SEND = 30
CHUNK = 1 << 18


class RemoteFile(NamedTuple):
    """A file that is known before it is downloaded.

    Attributes:
        url: where it is.
        size: in bytes; 0 where it is not known: then a download that broke off begins again.
        sha256: the checksum, 64 hexadecimal digits; empty where only the other one is known.
        name: of the file.
        md5: that of older sources, 32 hexadecimal digits; it tells damage, not malice.
    """

    url: str
    size: int
    sha256: str
    name: str
    md5: str = ""

    @property
    def checksum(self) -> tuple[str, str]:
        """The kind that is known, and its digits."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5)


def check_connection(url: str) -> None:
    """Asks once, and returns within `TO_ANSWER` seconds.

    Raises:
        ConnectionError: if no answer comes.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(_request(url, method="HEAD"), timeout=TO_ANSWER):
                outcome.append(None)
        except urllib.error.HTTPError as error:
            # A refusal is an answer too; the download itself will say what is wrong.
            error.close()
            outcome.append(None)
        except (OSError, http.client.HTTPException) as error:
            outcome.append(error)

    # In a thread, because looking up a host name knows no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TO_ANSWER)
    reason = outcome[0] if outcome else f"no answer within {TO_ANSWER} s"
    if reason is not None:
        raise ConnectionError(f"{url}: {getattr(reason, 'reason', reason)}")


def download(file: RemoteFile, folder: Path) -> Path:
    """Downloads a file, or the rest of it, and checks it.

    What has arrived stays in ``NAME.part`` where the connection breaks; the next call goes on from
    there. A bar shows the progress where standard error is a terminal.

    Args:
        file: what to download.
        folder: where to; it exists.

    Returns:
        The path, ``folder/NAME.part``. It is for the caller to remove.

    Raises:
        ConnectionError: if the file cannot be had, or not all of it.
        ValueError: if another file came; it is deleted.
    """
    path = folder / f"{file.name}.part"
    if not file.size:
        path.unlink(missing_ok=True)
    present = path.stat().st_size if path.exists() else 0
    if present < file.size or not file.size:
        try:
            _receive(file, path, present)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            arrived = path.stat().st_size if path.exists() else 0
            raise ConnectionError(
                f"{file.url}: {getattr(error, 'reason', error)}; {arrived:,} of {file.size:,} "
                f"bytes are here, the next run goes on from there"
            ) from error
    _verify(file, path)
    return path


def _request(url: str, **options) -> urllib.request.Request:
    # Some servers refuse the name that urllib gives itself.
    return urllib.request.Request(url, headers={"User-Agent": "lnl_jax"}, **options)


def _receive(file: RemoteFile, path: Path, present: int) -> None:
    require("tqdm")
    from tqdm import tqdm

    request = _request(file.url)
    if present:
        request.add_header("Range", f"bytes={present}-")
    with urllib.request.urlopen(request, timeout=TO_SEND) as response:
        # A server that knows no ranges sends the file from its start.
        if response.status != http.client.PARTIAL_CONTENT:
            present = 0
        announced = present + int(response.headers.get("Content-Length") or file.size - present)
        bar = tqdm(
            desc=file.name,
            total=announced,
            initial=present,
            unit="B",
            unit_scale=True,
            disable=None,
        )
        with path.open("ab" if present else "wb") as opened, bar:
            while present < announced and (chunk := response.read(CHUNK)):
                opened.write(chunk)
                present += len(chunk)
                bar.update(len(chunk))
    if present < announced:
        raise ConnectionError("the connection broke")


def _verify(file: RemoteFile, path: Path) -> None:
    with path.open("rb") as opened:
        kind, expected = file.checksum
        found = hashlib.file_digest(opened, kind).hexdigest()
    size = path.stat().st_size
    if (size, found) != (file.size or size, expected):
        path.unlink()
        raise ValueError(
            f"{file.name} from {file.url} is not the file expected: {file.size or size:,} bytes "
            f"with {kind} {expected[:12]}... expected, {size:,} bytes with {found[:12]}... came. "
            "It is deleted; run again."
        )
