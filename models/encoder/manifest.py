"""What an artefact's manifest says, read field by field; `models/encoder/artefact.py` documents the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from models.errors import DeploymentError

Precision: TypeAlias = Literal["int8", "fp16", "fp32"]
PRECISIONS: Final[tuple[str, ...]] = get_args(Precision)

INPUT_IDS, ATTENTION_MASK, NGRAM_IDS = "input_ids", "attention_mask", "ngram_ids"
INPUTS: Final = (INPUT_IDS, ATTENTION_MASK, NGRAM_IDS)
EMBEDDING, SENTIMENT, INTENSITY, TOPICS, INTENTS = "embedding", "sentiment", "intensity", "topics", "intents"
OUTPUTS: Final = (EMBEDDING, SENTIMENT, INTENSITY, TOPICS, INTENTS)

#: What a manifest of format 1 stood for without saying so.
LEGACY_OUTPUTS: Final = (EMBEDDING, SENTIMENT, INTENSITY)
SENTIMENT_LABELS: Final = ("negative", "neutral", "positive")
MAX_SENTIMENT_LABELS: Final = 5


@dataclass(frozen=True, slots=True)
class LabelHead:
    """A trained head of named labels. `thresholds` are least probabilities, one a label."""

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    out_of_scope: frozenset[str] = frozenset()  # names that stand for "none of these"
    replace: bool = False  # the catalogue of the deployment is not consulted


@dataclass(frozen=True, slots=True)
class NgramSpec:
    """How the second input is made from the text; see models/encoder/ngrams.py."""

    algorithm: str
    buckets: int  # ids are below it
    min_n: int
    max_n: int
    scope: str


@dataclass(frozen=True, slots=True)
class GraphContract:
    """What the manifest promises of the graph and how its outputs are read."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: Precision
    dimension: int  # of the embedding
    max_length: int  # tokens, special tokens included
    languages: frozenset[str]  # what the heads were taught; others get a low confidence
    sentiment_labels: tuple[str, ...]  # most negative first; empty without that head
    topics: LabelHead | None
    intents: LabelHead | None
    ngrams: NgramSpec | None
    vocabulary: int | None  # tokens of the tokenizer; None: unknown, not checked

    @property
    def batched(self) -> bool:
        """Whether rows of several lengths may share a call; else it is one text a call."""
        return ATTENTION_MASK in self.inputs

    def widths(self) -> dict[str, int]:
        """The last axis of every output."""
        widths = {EMBEDDING: self.dimension, SENTIMENT: len(self.sentiment_labels), INTENSITY: 1}
        for name, head in ((TOPICS, self.topics), (INTENTS, self.intents)):
            widths[name] = len(head.names) if head is not None else 0
        return {name: widths[name] for name in self.outputs}


def read_contract(manifest: Mapping[str, object], where: str) -> GraphContract:
    """The contract in a manifest; `where` names it in errors. Raises DeploymentError."""
    fields = _Fields(manifest, where)
    outputs = fields.names("outputs", OUTPUTS, LEGACY_OUTPUTS)
    contract = GraphContract(
        inputs=fields.names("inputs", INPUTS, (INPUT_IDS,)),
        outputs=outputs,
        precision=fields.precision(),
        dimension=fields.positive("dimension"),
        max_length=fields.positive("max_length"),
        languages=frozenset(fields.strings("languages", [])),
        sentiment_labels=fields.sentiment_labels(SENTIMENT in outputs),
        topics=fields.head("topics", TOPICS in outputs),
        intents=fields.head("intents", INTENTS in outputs),
        ngrams=fields.ngrams(),
        vocabulary=fields.positive("vocabulary") if "vocabulary" in manifest else None,
    )
    fields.require(INPUT_IDS in contract.inputs, "inputs must have input_ids", contract.inputs)
    fields.require(EMBEDDING in contract.outputs, "outputs must have embedding", contract.outputs)
    fields.require(
        (contract.ngrams is None) == (NGRAM_IDS not in contract.inputs),
        "ngrams must be described when, and only when, ngram_ids is an input",
        contract.ngrams,
    )
    return contract


class _Fields:
    """The fields of one mapping, with errors that name them."""

    def __init__(self, fields: Mapping[str, object], where: str) -> None:
        self._fields, self._where = fields, where

    def require(self, holds: bool, expected: str, found: object) -> None:
        if not holds:
            raise DeploymentError(f"{self._where}: {expected}, got {found!r}; export the artefact again")

    def positive(self, name: str) -> int:
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DeploymentError(f"{self._where}: {name} must be a positive number, got {value!r}")
        return value

    def strings(self, name: str, default: list[str] | None = None) -> tuple[str, ...]:
        value = self._fields.get(name, default)
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise DeploymentError(f"{self._where}: {name} must be a list of names, got {value!r}")
        self.require(len(set(value)) == len(value), f"{name} must not repeat a name", value)
        return tuple(value)

    def names(self, name: str, known: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
        given = self.strings(name, list(default))
        unknown = [one for one in given if one not in known]
        self.require(not unknown, f"{name} are among {', '.join(known)}", unknown)
        return given

    def precision(self) -> Precision:
        value = self._fields.get("precision", "int8")
        if value == "int8" or value == "fp16" or value == "fp32":
            return value
        raise DeploymentError(f"{self._where}: precision is one of {', '.join(PRECISIONS)}, got {value!r}")

    def sentiment_labels(self, wanted: bool) -> tuple[str, ...]:
        if not wanted:
            return ()
        default = self.strings("labels") if "labels" in self._fields else None  # the name of format 1
        labels = self.strings("sentiment_labels", list(default) if default else None)
        known = [label for label in SENTIMENT_LABELS if label in labels]
        self.require(
            2 <= len(labels) <= MAX_SENTIMENT_LABELS
            and (len(labels) != len(SENTIMENT_LABELS) or labels == SENTIMENT_LABELS)
            and known == [label for label in labels if label in SENTIMENT_LABELS],
            f"expected labels {list(SENTIMENT_LABELS)}, or 2, 4 or {MAX_SENTIMENT_LABELS} from worst to best",
            list(labels),
        )
        return labels

    def head(self, name: str, wanted: bool) -> LabelHead | None:
        described = self._fields.get(name)
        what = f"{name} must be described by an object when, and only when, it is an output"
        self.require(isinstance(described, dict) if wanted else described is None, what, described)
        if not isinstance(described, dict):
            return None
        inner = _Fields(described, f"{self._where}: {name}")
        names = inner.strings("names")
        inner.require(bool(names), "names must not be empty", names)
        out_of_scope = frozenset(inner.strings("out_of_scope", []))
        unknown = sorted(out_of_scope - set(names))
        inner.require(not unknown, f"out_of_scope is among {', '.join(names)}", unknown)
        return LabelHead(names, inner._thresholds(len(names)), out_of_scope, described.get("replace") is True)

    def _thresholds(self, count: int) -> tuple[float, ...]:
        value = self._fields.get("thresholds", 0.5)
        given = value if isinstance(value, list) else [value] * count
        numbers = [float(one) for one in given if isinstance(one, int | float) and not isinstance(one, bool)]
        fits = len(numbers) == len(given) == count and all(0 <= one <= 1 for one in numbers)
        self.require(fits, f"thresholds is one probability, or {count} of them", value)
        return tuple(numbers)

    def ngrams(self) -> NgramSpec | None:
        described = self._fields.get("ngrams")
        if described is None:
            return None
        self.require(isinstance(described, dict), "ngrams must be an object", described)
        assert isinstance(described, dict)
        inner = _Fields(described, f"{self._where}: ngrams")
        spec = NgramSpec(
            algorithm=str(described.get("algorithm", "")),
            buckets=inner.positive("buckets"),
            min_n=inner.positive("min_n"),
            max_n=inner.positive("max_n"),
            scope=str(described.get("scope", "")),
        )
        inner.require(spec.min_n <= spec.max_n, f"max_n must be at least min_n = {spec.min_n}", spec.max_n)
        return spec
