"""One inference session per process, model and providers, shared by the calling threads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoder.artefact import Artefact
from models.encoder.manifest import ATTENTION_MASK, INPUT_IDS, NGRAM_IDS, GraphContract
from models.encoder.tokens import EncoderInput
from models.errors import DeploymentError

CPU_PROVIDERS: Final = ("CPUExecutionProvider",)
_NVIDIA: Final = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
#: Texts of one length share a call up to so many tokens: above them it gains nothing.
SHARED_TOKENS: Final = 192
_CHECKED_LENGTHS: Final = (5, 8, 33, 96)
_FEW_WORDS: Final = 97  # every vocabulary has as many

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
    """Texts at their exact length, without padding; short texts of one length share a call.

    They do so only where it was found, when the model was loaded, that this changes no bit of any result.
    """

    def __init__(self, artefact: Artefact, providers: Sequence[str] = CPU_PROVIDERS) -> None:
        self.artefact = artefact.without_weights()
        self._session = open_session(artefact, providers)
        self._outputs = artefact.contract.outputs
        try:
            self._shared_tokens = SHARED_TOKENS if self._rows_are_exact(artefact.contract) else 0
        except Exception as error:  # onnxruntime's own classes derive from Exception only
            raise DeploymentError(f"{artefact.path}: the graph cannot run: {error}") from None

    def plan(self, inputs: Sequence[EncoderInput]) -> list[list[int]]:
        """Groups of one length, the longest first so that no thread is left with one at the end."""
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, features in enumerate(inputs):
            alike[len(features.ids), len(features.ngrams)].append(i)
        groups = []
        for (tokens, _), places in sorted(alike.items(), reverse=True):
            rows = max(1, self._shared_tokens // max(tokens, 1))
            groups += [places[k : k + rows] for k in range(0, len(places), rows)]
        return groups

    def computed_tokens(self, inputs: Sequence[EncoderInput]) -> int:
        """Nothing is padded."""
        return sum(len(features.ids) for features in inputs)

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        """One call for texts of one length."""
        ids = np.array([features.ids for features in inputs], dtype=np.int64)
        feed = {INPUT_IDS: ids}
        if ATTENTION_MASK in self.artefact.contract.inputs:
            feed[ATTENTION_MASK] = np.ones_like(ids)
        if NGRAM_IDS in self.artefact.contract.inputs:
            feed[NGRAM_IDS] = np.stack([features.ngrams for features in inputs])
        return split_rows(self._outputs, self._session.run(self._outputs, feed), len(inputs))

    def _rows_are_exact(self, contract: GraphContract) -> bool:
        ngrams = np.arange(2 if NGRAM_IDS in contract.inputs else 0, dtype=np.int64)
        words = contract.vocabulary or _FEW_WORDS
        for tokens in sorted({min(length, contract.max_length) for length in _CHECKED_LENGTHS}):
            rows = [
                EncoderInput([(7 * row + 3 * k) % words for k in range(tokens)], ngrams, False)
                for row in range(3)
            ]
            together, alone = self.run(rows), [self.run([row])[0] for row in rows]
            if not all(map(_same_bits, together, alone)):
                return False
        return True


def split_rows(names: Sequence[str], values: Sequence[Any], count: int) -> list[EncoderOutput]:
    """The outputs of the first `count` rows, from one array an output."""
    arrays = [value.astype(np.float32, copy=False) for value in values]
    return [
        EncoderOutput(**{name: array[row] for name, array in zip(names, arrays, strict=True)})
        for row in range(count)
    ]


def _same_bits(a: EncoderOutput, b: EncoderOutput) -> bool:
    return all(
        np.array_equal(getattr(a, field.name), getattr(b, field.name), equal_nan=False) for field in fields(a)
    )


def open_session(
    artefact: Artefact, providers: Sequence[str], options: Mapping[str, Mapping[str, object]] | None = None
) -> Any:
    """An onnxruntime session whose graph is what the manifest promises, on the providers asked for.

    `options` are the providers' own. Raises DeploymentError.
    """
    require_providers(providers)
    if _NVIDIA & set(providers) and hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        onnxruntime.preload_dlls()  # CUDA's libraries, where pip put them
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
