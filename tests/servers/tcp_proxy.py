"""A TCP proxy on loopback that can lose the answers, or refuse everybody: what networks do."""

from __future__ import annotations

import socket
import threading
from contextlib import AbstractContextManager, suppress
from types import TracebackType


class TcpProxy(AbstractContextManager["TcpProxy"]):
    """Carries bytes to `target` and back.

    Once `lose_answers` is set, what the client sends still arrives and nothing comes back, while
    the connection stays open. While `away` is set nobody is let in and all are thrown out.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lose_answers = threading.Event()
        self.away = threading.Event()
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
                if self.away.is_set():
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._open += [client, server]
                threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while sent := source.recv(65536):
                if answers and self.lose_answers.is_set():
                    self.lost += len(sent)
                    continue
                sink.sendall(sent)
        for each in (source, sink):
            with suppress(OSError):
                each.close()
