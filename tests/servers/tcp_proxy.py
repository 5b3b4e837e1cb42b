"""A TCP proxy on loopback that can lose the answers, or refuse everybody: what networks do."""

from __future__ import annotations

import socket
import threading
from contextlib import AbstractContextManager, suppress
from types import TracebackType


class TcpProxy(AbstractContextManager["TcpProxy"]):
    """Carries bytes to `target` and back.

    Once `lose_answers` is set, what the client sends still arrives and nothing comes back, while
    the connection stays open. The same holds of a connection on which the client says `lose_answer_to`,
    from then on: the server does what it was told, and is never heard of. While `away` is set nobody is
    let in and all are thrown out.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lose_answers = threading.Event()
        self.away = threading.Event()
        self.lose_answer_to = b""
        self.unheard = 0  # connections on which that was said
        self.lost = 0  # bytes of answers
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.throw_out()

    def throw_out(self) -> None:
        """Breaks every connection."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open = []

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = None if self.away.is_set() else _connected(self._target)
                if server is None:
                    client.close()
                    continue
                self._open += [client, server]
                deaf = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, deaf), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client, deaf), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while said := client.recv(65536):
                if self.lose_answer_to and self.lose_answer_to in said:
                    self.unheard += 1
                    deaf.set()
                server.sendall(said)
        _close(client, server)

    def _answer(self, server: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while answer := server.recv(65536):
                if deaf.is_set() or self.lose_answers.is_set():
                    self.lost += len(answer)
                    continue
                client.sendall(answer)
        _close(client, server)


def _connected(target: tuple[str, int]) -> socket.socket | None:
    try:
        return socket.create_connection(target)
    except OSError:
        return None


def _close(*both: socket.socket) -> None:
    for each in both:
        with suppress(OSError):
            each.close()
