"""An S3 server on the loopback interface, and a proxy before it that fails in chosen ways."""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from moto.server import ThreadedMotoServer

HOST = "127.0.0.1"
BUCKET = "archive"

Fault = Callable[[str, str, int], str | None]
"""Takes method, path and number of a request; returns what to do, or None.

That is "503", "slow", "cut" (half of the request comes, and no answer) or "lost" (the request is
handed on, and its answer does not come).
"""


@dataclass
class Proxy:
    """Hands requests on to a server, unless a fault is wanted.

    Parameters
    ----------
    target : int
        Port of the server.
    fault : callable
        See :data:`Fault`.
    seen : list of (method, path, what was done)
        All requests.
    slow_s : float
        How long slow answers take.
    port : int
        Where the proxy listens.
    """

    target: int
    fault: Fault = lambda *_: None
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    slow_s: float = 0.3
    port: int = 0

    def faults(self) -> int:
        """Return how many requests were not just handed on."""
        return sum(what is not None for *_, what in self.seen)


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def hand_on(self) -> None:
            what = proxy.fault(self.command, unquote(self.path), len(proxy.seen))
            proxy.seen.append((self.command, self.path, what))
            size = int(self.headers.get("Content-Length") or 0)
            if what == "cut":
                # Half of it has come, and the connection is gone.
                self.rfile.read(size // 2)
                self.close_connection = True
                self.connection.close()
                return
            body = self.rfile.read(size)
            if what == "slow":
                time.sleep(proxy.slow_s)
            if what == "503":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            server = http.client.HTTPConnection(HOST, proxy.target)
            headers = {key: value for key, value in self.headers.items() if key != "Expect"}
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            data = answer.read()
            if what == "lost":
                server.close()
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(key, value)
            if answer.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            server.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = hand_on  # noqa: N815

    return Handler


def ask_server(proxy: Proxy, what: str, data: str = "") -> None:
    """Have the server forget all (reset), or check keys after so many requests (reset-auth)."""
    connection = http.client.HTTPConnection(HOST, proxy.target)
    headers = {"Content-Type": "application/octet-stream"}
    connection.request("POST", f"/moto-api/{what}", data, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def forget(proxy: Proxy) -> None:
    """Have the server forget all, and the proxy its faults; servers of one process share it."""
    proxy.fault = lambda *_: None
    proxy.seen.clear()
    ask_server(proxy, "reset")
    ask_server(proxy, "reset-auth", "inf")


@contextmanager
def s3_server() -> Iterator[Proxy]:
    """Yield a proxy before a server that holds no bucket yet."""
    # Which would list every request on stderr.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    moto.start()
    _, port = moto.get_host_and_port()
    proxy = Proxy(port)
    front = ThreadingHTTPServer((HOST, 0), _handler(proxy))
    front.daemon_threads = True
    proxy.port = front.server_port
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    forget(proxy)
    try:
        yield proxy
    finally:
        front.shutdown()
        front.server_close()
        moto.stop()
