"""The page's server on loopback, and what its answers are."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from pipeline.ui.serving import listen, make_server

_SECONDS = 60.0


class Answer(NamedTuple):
    """Of one request."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class Page(NamedTuple):
    """A server that runs."""

    host: str
    port: int

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_SECONDS)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def of_user(self, user_id: str, rest: str) -> Answer:
        """A path below one user's."""
        return self.get(f"/api/users/{quote(user_id, safe='')}/{rest}")

    @contextmanager
    def changes(self) -> Iterator[Iterator[dict[str, str]]]:
        """The stamps that the server sends, one at a time."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_SECONDS)
        try:
            connection.request("GET", "/api/changes")
            answer = connection.getresponse()
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = iter(answer.readline, b"")
            yield (json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: "))
        finally:
            connection.close()


def page_at(url: str) -> Page:
    """Of a server that another process runs."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    return Page(parts.hostname, parts.port)


@contextmanager
def served(output: Path, user_id_key: bytes | None = None) -> Iterator[Page]:
    """The page over a folder, for as long as the block; its streams end with it."""
    with listen("127.0.0.1", 0) as listening:
        server = make_server("127.0.0.1", output, user_id_key)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Page("127.0.0.1", listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(_SECONDS)
            assert not thread.is_alive()
