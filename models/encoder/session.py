"""One inference session per process, model and providers, shared by the calling threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoder.artefact import Artefact
from models.errors import DeploymentError

CPU_PROVIDERS: Final = ("CPUExecutionProvider",)
OUTPUT_NAMES: Final = ("embedding", "sentiment", "intensity")

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """What the graph gives for one text."""

    embedding: Floats  # (dimension,), unit length
    sentiment: Floats  # (3,), probabilities
    intensity: float  # [0, 1]


class EncoderSession:
    """A verified artefact, loaded. Safe to call from many threads."""

    def __init__(self, artefact: Artefact, providers: Sequence[str] = CPU_PROVIDERS) -> None:
        self.artefact = artefact
        self._session = _open(artefact, providers)
        self._require_outputs()

    def run(self, ids: Sequence[int]) -> EncoderOutput:
        """Encodes one text at its exact length, so that nothing else can change its result."""
        feed = {"input_ids": np.array([ids], dtype=np.int64)}
        embedding, sentiment, intensity = self._session.run(OUTPUT_NAMES, feed)
        return EncoderOutput(embedding[0], sentiment[0], float(intensity[0, 0]))

    def _require_outputs(self) -> None:
        inputs = [node.name for node in self._session.get_inputs()]
        outputs = {node.name: node.shape[-1] for node in self._session.get_outputs()}
        labels = len(self.artefact.labels)
        expected = {"embedding": self.artefact.dimension, "sentiment": labels, "intensity": 1}
        if inputs != ["input_ids"] or outputs != expected:
            raise DeploymentError(
                f"{self.artefact.path}: expected the graph to map input_ids to {expected}, "
                f"got {inputs} to {outputs}; export the artefact again"
            )


def _open(artefact: Artefact, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    require_providers(providers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the callers are the threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(artefact.model, options, providers=list(providers))
    except Exception as error:  # onnxruntime's own classes derive from Exception only
        raise DeploymentError(f"{artefact.path}: onnxruntime cannot load the model: {error}") from None
    missing = set(providers) - set(session.get_providers())
    if missing:
        raise DeploymentError(
            f"the model was asked to run on {', '.join(providers)}, but {', '.join(sorted(missing))} "
            f"did not start; running: {', '.join(session.get_providers())}"
        )
    return session


def require_providers(providers: Sequence[str]) -> None:
    """Raises DeploymentError unless onnxruntime has every provider: it would fall back silently."""
    available = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing or not providers:
        raise DeploymentError(
            f"execution provider {', '.join(missing) or '(none)'} is not in this onnxruntime; it has "
            f"{', '.join(available)}. For CUDA install livelist[gpu] instead of livelist[cpu]"
        )


_sessions: dict[tuple[str, tuple[str, ...]], EncoderSession] = {}
_sessions_lock = threading.Lock()


def shared_session(artefact: Artefact, providers: Sequence[str] = CPU_PROVIDERS) -> EncoderSession:
    """The process's session for this model version and these providers, loaded once."""
    key = (f"{artefact.path.resolve()}@{artefact.version}", tuple(providers))
    with _sessions_lock:
        if key not in _sessions:
            _sessions[key] = EncoderSession(artefact, providers)
        return _sessions[key]
