import contextlib
import socket
import threading
import urllib.request

import numpy as np
import pytest

from lnl_jax.data import downloads
from lnl_jax.data.downloads import check_connection, download
from tests.data.serving import nobody_there, serving

CONTENT = np.random.default_rng(0).bytes(1_000_003)
HALF = 500_000


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server


def gets(server):
    return [asked for method, _, asked in server.log if method == "GET"]


def test_a_file_is_downloaded_whole(server, tmp_path, capfd):
    path = download(server.offer("a.bin", CONTENT), tmp_path)
    assert path.read_bytes() == CONTENT
    assert path.parent == tmp_path
    assert gets(server) == [None]
    # No bar where standard error is no terminal.
    assert capfd.readouterr() == ("", "")


def test_only_the_rest_is_asked_for(server, tmp_path):
    file = server.offer("a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:HALF])
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert gets(server) == [f"bytes={HALF}-"]
    # What is complete is not asked for again.
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert len(server.log) == 1


def test_a_server_that_knows_no_ranges_starts_over(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:HALF])
    assert download(server.offer("a.bin", CONTENT), tmp_path).read_bytes() == CONTENT
    assert gets(server) == [f"bytes={HALF}-"]


def test_a_broken_connection_keeps_what_arrived_and_goes_on_from_there(server, tmp_path):
    file, server.breaks_after = server.offer("a.bin", CONTENT), HALF
    with pytest.raises(ConnectionError, match="500,000 of 1,000,003 bytes are here, the next run"):
        download(file, tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:HALF]
    server.breaks_after = None
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert gets(server) == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("present", [0, HALF])
@pytest.mark.parametrize("wrong", ["other", "shorter", "longer"])
def test_another_file_is_deleted_and_said_to_be_another(server, tmp_path, wrong, present):
    file = server.offer("a.bin", CONTENT)
    other = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    served = {"other": other, "shorter": CONTENT[:-5], "longer": CONTENT + b"more"}[wrong]
    came = server.offer("a.bin", served)
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:present])
    with pytest.raises(ValueError, match=r"a\.bin .*is deleted; run again") as raised:
        download(file, tmp_path)
    for known in (file, came):
        assert f"{known.size:,} bytes" in str(raised.value)
        assert known.sha256[:12] in str(raised.value)
    assert not [*tmp_path.iterdir()]


def test_a_spoilt_part_is_deleted_so_that_the_next_run_works(server, tmp_path):
    file = server.offer("a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(b"?" * HALF)
    with pytest.raises(ValueError, match="deleted; run again"):
        download(file, tmp_path)
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_not_served_is_said_not_to_be(server, tmp_path):
    file = server.offer("a.bin", CONTENT)
    server.files.clear()
    check_connection(file.url)
    with pytest.raises(ConnectionError, match=r"a\.bin: Not Found; 0 of"):
        download(file, tmp_path)


def test_a_server_that_answers_is_reached(server):
    check_connection(server.offer("a.bin", CONTENT).url)
    assert server.log == [("HEAD", "a.bin", None)]


def test_where_nobody_listens_the_connection_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionError, match="127.0.0.1.*refused"):
        check_connection(nobody_there())
    file = downloads.RemoteFile(nobody_there(), 3, "0" * 64, "a.bin")
    with pytest.raises(ConnectionError, match="refused; 0 of 3 bytes"):
        download(file, tmp_path)


def test_a_server_that_stays_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "TO_ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=r"timed out|no answer within 0\.1 s"):
            check_connection(url)


def test_a_lookup_of_the_host_that_hangs_is_not_waited_for(monkeypatch):
    hung = threading.Event()

    def hang(*args, **kwargs):
        hung.wait(1)
        return contextlib.nullcontext()

    monkeypatch.setattr(downloads, "TO_ANSWER", 0.05)
    monkeypatch.setattr(urllib.request, "urlopen", hang)
    with pytest.raises(ConnectionError, match=r"no answer within 0\.05 s"):
        check_connection("http://a.invalid")
    hung.set()
