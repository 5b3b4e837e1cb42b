"""One inference session per process, model and providers, shared by the calling threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoder.artefact import Artefact
from models.encoder.manifest import ATTENTION_MASK, INPUT_IDS, NGRAM_IDS
from models.encoder.tokens import EncoderInput
from models.errors import DeploymentError

CPU_PROVIDERS: Final = ("CPUExecutionProvider",)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """What the graph gives for one text; None for a head that it does not have."""

    embedding: Floats  # (dimension,), unit length
    sentiment: Floats | None = None  # probabilities, most negative first
    intensity: Floats | None = None  # (1,), [0, 1]
    topics: Floats | None = None  # independent probabilities
    intents: Floats | None = None  # probabilities


class Encoder(Protocol):
    """A verified artefact, loaded. Safe to call from many threads."""

    artefact: Artefact  # without its bytes

    def plan(self, inputs: Sequence[EncoderInput]) -> list[list[int]]:
        """The places of the inputs in groups that share a call, the most work first."""
        ...

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        """The outputs of one group, in order; none depends on the others."""
        ...

    def computed_tokens(self, inputs: Sequence[EncoderInput]) -> int:
        """How many tokens the graph computes for one group, padding included."""
        ...


class ExactSession:
    """One text a call, at its exact length, so that nothing else can change its result."""

    def __init__(self, artefact: Artefact, providers: Sequence[str] = CPU_PROVIDERS) -> None:
        self.artefact = artefact.without_weights()
        self._session = open_session(artefact, providers)
        self._outputs = artefact.contract.outputs

    def plan(self, inputs: Sequence[EncoderInput]) -> list[list[int]]:
        """Each alone, the longest first so that no thread is left with one at the end."""
        return [[i] for i in sorted(range(len(inputs)), key=lambda i: -len(inputs[i].ids))]

    def computed_tokens(self, inputs: Sequence[EncoderInput]) -> int:
        """Nothing is padded."""
        return sum(len(features.ids) for features in inputs)

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        """One call a text."""
        return [self._run_one(features) for features in inputs]

    def _run_one(self, features: EncoderInput) -> EncoderOutput:
        ids = np.array([features.ids], dtype=np.int64)
        feed = {INPUT_IDS: ids}
        if ATTENTION_MASK in self.artefact.contract.inputs:
            feed[ATTENTION_MASK] = np.ones_like(ids)
        if NGRAM_IDS in self.artefact.contract.inputs:
            feed[NGRAM_IDS] = features.ngrams[None]
        values = self._session.run(self._outputs, feed)
        rows = (value[0].astype(np.float32, copy=False) for value in values)
        return EncoderOutput(**dict(zip(self._outputs, rows, strict=True)))


def open_encoder(artefact: Artefact, providers: Sequence[str] = CPU_PROVIDERS) -> Encoder:
    """The way of running that suits the artefact and the providers."""
    return ExactSession(artefact, providers)


def open_session(
    artefact: Artefact, providers: Sequence[str], options: Mapping[str, Mapping[str, object]] | None = None
) -> Any:
    """An onnxruntime session whose graph is what the manifest promises, on the providers asked for.

    `options` are the providers' own. Raises DeploymentError.
    """
    require_providers(providers)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1  # the callers are the threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    chosen = [(name, dict((options or {}).get(name, {}))) for name in providers]
    try:
        session = onnxruntime.InferenceSession(artefact.model, settings, providers=chosen)
    except Exception as error:  # onnxruntime's own classes derive from Exception only
        raise DeploymentError(f"{artefact.path}: onnxruntime cannot load the model: {error}") from None
    _require_running(providers, session.get_providers())
    _require_graph(artefact, session)
    return session


def _require_running(wanted: Sequence[str], running: Sequence[str]) -> None:
    missing = sorted(set(wanted) - set(running))
    if missing:
        raise DeploymentError(
            f"the model was asked to run on {', '.join(wanted)}, but {', '.join(missing)} "
            f"did not start; running: {', '.join(running)}"
        )


def _require_graph(artefact: Artefact, session: Any) -> None:
    contract = artefact.contract
    inputs = {node.name: (node.type, len(node.shape)) for node in session.get_inputs()}
    outputs = {node.name: node.shape[-1] for node in session.get_outputs()}
    types = {node.type for node in session.get_outputs()}
    expected = dict.fromkeys(contract.inputs, ("tensor(int64)", 2))
    if (
        inputs != expected
        or outputs != contract.widths()
        or not types <= {"tensor(float)", "tensor(float16)"}
    ):
        raise DeploymentError(
            f"{artefact.path}: expected the graph to map {', '.join(expected)} (int64, two axes) to "
            f"{contract.widths()}, got {inputs} to {outputs}; export the artefact again"
        )


def require_providers(providers: Sequence[str]) -> None:
    """Raises DeploymentError unless onnxruntime has every provider: it would fall back silently."""
    available = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing or not providers:
        raise DeploymentError(
            f"execution provider {', '.join(missing) or '(none)'} is not in this onnxruntime; it has "
            f"{', '.join(available)}. For CUDA install livelist[gpu] instead of livelist[cpu]"
        )


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
