"""One process that serves the page until it is asked to end."""

from __future__ import annotations

import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from models.errors import UsageError
from pipeline.listening import in_url, is_loopback
from pipeline.ui.server import make_app

#: The last is what earlier releases of Starlette make of [::1]:PORT.
_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1", "[::1]", "[")
_MOST_CONNECTIONS: Final = 200
_LAST_ANSWERS_SECONDS: Final = 3


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UsageError where the port is taken or the address is not this machine's."""
    if not 0 <= port <= 65_535:
        raise UsageError(f"--port: expected 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        why = error.strerror or error
        raise UsageError(f"cannot listen on {host}:{port}: {why}; choose another --port") from error
    return listening


def serve(
    listening: socket.socket, host: str, output: Path, user_id_key: bytes | None = None, show: bool = False
) -> None:
    """Serves until SIGINT or SIGTERM, which end it as asked: open streams are told, and it returns."""
    url = f"http://{in_url(host)}:{listening.getsockname()[1]}/"
    server = make_server(host, output, user_id_key)
    with _signals_that_end_it():
        print(f"{output} is shown at {url} (Ctrl-C ends it)", flush=True)
        if show:
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
        server.run(sockets=[listening])


def make_server(host: str, output: Path, user_id_key: bytes | None = None) -> uvicorn.Server:
    """The server of the page; setting its `should_exit` ends it, open streams included."""
    servers: list[uvicorn.Server] = []
    app = make_app(
        output,
        user_id_key,
        hosts=(*_LOCAL_NAMES, host) if is_loopback(host) else ("*",),
        stopping=lambda: servers[0].should_exit,
    )
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )
    servers.append(uvicorn.Server(config))
    return servers[0]


@contextmanager
def _signals_that_end_it() -> Iterator[None]:
    """The server raises the signal that ended it once more when it has ended: by then it is no news."""

    def heard(number: int, frame: FrameType | None) -> None:
        """It has ended already."""

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
