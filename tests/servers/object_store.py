"""An S3 store on loopback, as moto has it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.processes import ServerMissing


@contextmanager
def object_store() -> Iterator[str]:
    """The address of one that is empty. Raises ServerMissing."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise ServerMissing("moto is missing: make test-all") from error
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    host, port = store.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        store.stop()
