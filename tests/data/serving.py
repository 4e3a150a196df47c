"""A server on this machine, for tests of downloads."""

import contextlib
import hashlib
import http.server
import socket
import threading

from lnl_jax.data.downloads import RemoteFile


class Server:
    """Serves `files`, bytes by name. What it does wrong can be switched on; it keeps a log."""

    def __init__(self):
        self.files, self.log = {}, []
        self.knows_ranges, self.breaks_after, self.offset = True, None, 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.answer(False)

            def do_GET(self):
                self.answer(True)

            def answer(self, with_body):
                name, asked = self.path.lstrip("/"), self.headers.get("Range")
                server.log.append((self.command, name, asked))
                if name not in server.files:
                    self.send_error(404)
                    return
                start = int(asked[len("bytes=") : -1]) if asked and server.knows_ranges else 0
                body = server.files[name][start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if with_body:
                    self.wfile.write(body[: server.breaks_after])

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def offer(self, name, content):
        """Serves a file and says what is known of it."""
        self.files[name] = content
        checksum = hashlib.sha256(content).hexdigest()
        return RemoteFile(f"{self.url}/{name}", len(content), checksum, name)


@contextlib.contextmanager
def serving():
    server = Server()
    try:
        yield server
    finally:
        server.stop()


def nobody_there():
    """An address at which connections are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
