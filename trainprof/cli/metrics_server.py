"""An HTTP server of this machine's own for one page, `/metrics`; it does not know what is on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socketserver import TCPServer
from urllib.parse import urlsplit

from trainprof.cli.looking_thread import step_back
from trainprof.errors import TrainprofError

ADDRESS = "127.0.0.1"
PATH = "/metrics"
TEXT = "text/plain; charset=utf-8"

CONNECTIONS_MAX = 16
"""At a time; further ones are closed at once."""
IDLE_S = 5.0
"""A client that sends or takes nothing for so long is left."""
CONNECTION_S = 15.0
"""And every client after so long, however slowly it sends."""
POLL_S = 0.1
"""Between two looks for clients that take too long, and for the end."""

Page = Callable[[str], tuple[str, bytes]]
"""What a client accepts -> content type and body; raises OSError or TrainprofError if it cannot."""


class MetricsServer(ThreadingHTTPServer):
    """Listens from the start on, and answers once it is started.

    Args:
        port: Of 127.0.0.1; 0: any that is free.

    Raises:
        OSError: the port is taken, or may not be opened.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        self._until_s: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.page: Page | None = None
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_address[1]}{PATH}"

    def start(self, page: Page) -> None:
        """Answers from now on, by threads that leave the processors to the training."""
        self.page = page
        self._thread = threading.Thread(target=self._run, name="trainprof-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; an answer under way is not waited for."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()

    def _run(self) -> None:
        step_back()
        self.serve_forever(POLL_S)

    def server_bind(self) -> None:
        """As of any TCP server: one of HTTP asks for the machine's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Hands a connection to a thread of its own, if there are not too many."""
        with self._lock:
            crowded = len(self._until_s) >= CONNECTIONS_MAX
            if not crowded:
                self._until_s[request] = time.monotonic() + CONNECTION_S
        if crowded:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """The end of a connection, whatever it was."""
        with self._lock:
            self._until_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Every `POLL_S`: leaves clients that take too long."""
        now_s = time.monotonic()
        with self._lock:
            late = [request for request, until_s in self._until_s.items() if until_s < now_s]
        for request in late:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no matter, and the terminal is the script's."""


class _Handler(BaseHTTPRequestHandler):
    timeout = IDLE_S
    server: MetricsServer
    server_version = "trainprof"
    sys_version = ""

    def do_GET(self) -> None:
        """Answers with the page, or says where it is."""
        path = self.path.partition("?")[0]
        if not is_of_this_machine(self.headers.get("Host")):
            self._answer(HTTPStatus.FORBIDDEN, TEXT, b"This is for clients of this machine.\n")
        elif path != PATH:
            status = HTTPStatus.OK if path == "/" else HTTPStatus.NOT_FOUND
            self._answer(status, TEXT, b"trainprof: the metrics of this run are at /metrics\n")
        else:
            self._answer_page()

    do_HEAD = do_GET

    def _answer_page(self) -> None:
        accepted = ",".join(self.headers.get_all("Accept", ()))
        try:
            if self.server.page is None:
                raise TrainprofError("Nothing is measured yet.")
            content_type, body = self.server.page(accepted)
        except (OSError, TrainprofError) as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{error}\n".encode())
        else:
            self._answer(HTTPStatus.OK, content_type, body)

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: the terminal is the script's."""


def is_of_this_machine(host: str | None) -> bool:
    """Whether a client asked for this machine by its own name.

    A page of the internet may let its name point to 127.0.0.1, and so have a browser read what is
    served here; the browser then tells the name.
    """
    if host is None:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
