"""Opens an artefact in the way that suits the execution providers, once a process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from weakref import WeakValueDictionary

from models.encoder.artefact import Artefact
from models.encoder.grid import GridSession
from models.encoder.session import CPU_PROVIDERS, Encoder, ExactSession


def open_encoder(artefact: Artefact, providers: Sequence[str] = CPU_PROVIDERS) -> Encoder:
    """Texts at their exact length on a CPU, batches of fixed shapes elsewhere.

    Raises DeploymentError when the artefact is not made for the providers, or one of them does not start.
    """
    if tuple(providers) == CPU_PROVIDERS:
        return ExactSession(artefact, providers)
    return GridSession(artefact, providers)


# Weakly, so that a model that was replaced leaves the memory with its last user.
_encoders: WeakValueDictionary[tuple[str, tuple[str, ...]], Encoder] = WeakValueDictionary()
_encoders_lock = threading.Lock()


def shared_encoder(artefact: Artefact, providers: Sequence[str] = CPU_PROVIDERS) -> Encoder:
    """The process's encoder for this model version and these providers, loaded once."""
    key = (f"{artefact.path.resolve()}@{artefact.version}", tuple(providers))
    with _encoders_lock:
        encoder = _encoders.get(key)
        if encoder is None:
            encoder = _encoders[key] = open_encoder(artefact, providers)
        return encoder
