"""Topics and intents of a deployment: names with descriptions, matched by embedding without training."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from models.errors import DeploymentError

#: The catalogue used when a deployment brings none; a shop's.
DEFAULT_TOPICS_PATH: Final = Path(__file__).with_name("topics.yaml")
#: What a matching `pattern` adds to an intent's cosine.
PATTERN_BONUS: Final = 0.3
MAX_TOPICS: Final = 3  # kept of one text
#: A topic further than this below the text's best one is dropped.
TOPIC_MARGIN: Final = 0.15
#: An intent that needs a side needs a polarity at least this far from 0, and gains by how far it is:
#: what is said about a broken zipper resembles few examples of a complaint, but it is one.
SIDED_POLARITY: Final = 0.1
POLARITY_BONUS: Final = 0.35

Polarity = Literal["negative", "positive"]
Floats = NDArray[np.float32]

_TOP_FIELDS: Final = frozenset({"version", "topic_threshold", "intent_threshold", "topics", "intents"})
_TOPIC_FIELDS: Final = frozenset({"name", "description", "examples", "threshold"})
_INTENT_FIELDS: Final = _TOPIC_FIELDS | {"polarity", "pattern"}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Label:
    """One topic or intent."""

    name: str
    phrases: tuple[str, ...]  # the description, then the examples
    threshold: float  # least cosine, in [-1, 1]
    polarity: Polarity | None = None
    pattern: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class TopicCatalogue:
    """What a deployment looks for in texts."""

    topics: tuple[Label, ...]
    intents: tuple[Label, ...]


def read_topics(path: str | Path = DEFAULT_TOPICS_PATH) -> TopicCatalogue:
    """Reads a catalogue; DeploymentError says which entry is wrong and what was expected."""
    try:
        return parse_topics(Path(path).read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"cannot read the topics file {path}: {error}") from None


def parse_topics(text: str, source: str = "topics") -> TopicCatalogue:
    """The catalogue written in `text`; `source` names it in errors."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DeploymentError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    fields = _mapping(document, source, _TOP_FIELDS)
    if fields.get("version") != 1:
        raise DeploymentError(f"{source}: expected `version: 1`, got {fields.get('version')!r}")
    return TopicCatalogue(
        topics=_labels(fields, "topics", "topic_threshold", _TOPIC_FIELDS, source),
        intents=_labels(fields, "intents", "intent_threshold", _INTENT_FIELDS, source),
    )


def _labels(
    fields: Mapping[str, object], key: str, threshold_key: str, allowed: frozenset[str], source: str
) -> tuple[Label, ...]:
    threshold = _threshold(fields.get(threshold_key, 0.4), f"{source}: {threshold_key}")
    entries = fields.get(key, [])
    if not isinstance(entries, list):
        raise DeploymentError(f"{source}: {key} must be a list, got {type(entries).__name__}")
    labels = tuple(_label(e, threshold, allowed, f"{source}: {key}[{i}]") for i, e in enumerate(entries))
    names = [label.name for label in labels]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DeploymentError(f"{source}: {key} has {', '.join(repeated)} more than once")
    return labels


def _label(entry: object, threshold: float, allowed: frozenset[str], where: str) -> Label:
    fields = _mapping(entry, where, allowed)
    name = fields.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DeploymentError(f"{where}: name must be lower-case letters, digits and _, got {name!r}")
    where = f"{where} ({name})"
    examples = fields.get("examples", [])
    if not isinstance(examples, list):
        raise DeploymentError(f"{where}: examples must be a list, got {type(examples).__name__}")
    phrases = (fields.get("description"), *examples)
    if not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases):
        raise DeploymentError(f"{where}: the description and every example must be text that is not empty")
    return Label(
        name=name,
        phrases=tuple(str(phrase) for phrase in phrases),
        threshold=_threshold(fields.get("threshold", threshold), where),
        polarity=_polarity(fields.get("polarity"), where),
        pattern=_pattern(fields.get("pattern"), where),
    )


def _mapping(value: object, where: str, allowed: frozenset[str]) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise DeploymentError(f"{where}: expected fields, got {type(value).__name__}")
    unknown = [str(key) for key in value if key not in allowed]
    if unknown:
        raise DeploymentError(
            f"{where}: unknown field {', '.join(unknown)}; expected {', '.join(sorted(allowed))}"
        )
    return {str(key): item for key, item in value.items()}


def _threshold(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise DeploymentError(f"{where}: a threshold is a cosine between -1 and 1, got {value!r}")
    return float(value)


def _polarity(value: object, where: str) -> Polarity | None:
    if value is None:
        return None
    if value == "negative":
        return "negative"
    if value == "positive":
        return "positive"
    raise DeploymentError(f"{where}: polarity must be negative or positive, got {value!r}")


def _pattern(value: object, where: str) -> re.Pattern[str] | None:
    if value is None:
        return None
    try:
        return re.compile(str(value))
    except re.error as error:
        raise DeploymentError(f"{where}: pattern is not a regular expression: {error}") from None


class LabelMatcher:
    """Finds a catalogue's labels near an embedding. Immutable once made; safe in many threads."""

    def __init__(self, catalogue: TopicCatalogue, embed: Callable[[Sequence[str]], Floats]) -> None:
        """`embed` gives unit vectors of shape (phrases, dimension)."""
        self._topics = _LabelVectors(catalogue.topics, embed)
        self._intents = _LabelVectors(catalogue.intents, embed)

    def topics(self, embedding: Floats) -> tuple[tuple[str, float], ...]:
        """(name, cosine) of the nearest topics, best first, at most `MAX_TOPICS`."""
        near = [
            (label.name, similarity)
            for label, similarity in self._topics.similarities(embedding)
            if similarity >= label.threshold
        ]
        near.sort(key=lambda entry: (-entry[1], entry[0]))
        return tuple(entry for entry in near[:MAX_TOPICS] if entry[1] >= near[0][1] - TOPIC_MARGIN)

    def intent(self, embedding: Floats, text: str, polarity: float) -> str | None:
        """The nearest intent that the text's polarity allows; None when none is near enough."""
        best: tuple[float, str] | None = None
        for label, similarity in self._intents.similarities(embedding):
            side = _side(label, polarity)
            if label.polarity is not None and side < SIDED_POLARITY:
                continue
            score = similarity + POLARITY_BONUS * side
            if self._may_help(label, score, best) and _matches(label, text):
                score = similarity + PATTERN_BONUS + POLARITY_BONUS * side
            if score >= label.threshold:
                best = max(best or (score, label.name), (score, label.name))
        return None if best is None else best[1]

    @staticmethod
    def _may_help(label: Label, score: float, best: tuple[float, str] | None) -> bool:
        """Whether a pattern's bonus could matter: searching a long text costs more than all the rest."""
        least = label.threshold if best is None else max(label.threshold, best[0])
        return score + PATTERN_BONUS >= least - 1e-9


def _matches(label: Label, text: str) -> bool:
    return label.pattern is not None and label.pattern.search(text) is not None


def _side(label: Label, polarity: float) -> float:
    """How far the text leans to the label's side, in [-1, 1]; 0 for a label without one."""
    if label.polarity is None:
        return 0.0
    return polarity if label.polarity == "positive" else -polarity


class _LabelVectors:
    """The phrases of some labels as one matrix; a label is as near as its nearest phrase."""

    def __init__(self, labels: tuple[Label, ...], embed: Callable[[Sequence[str]], Floats]) -> None:
        self._labels = labels
        phrases = [phrase for label in labels for phrase in label.phrases]
        self._matrix = embed(phrases) if phrases else None
        counts = [len(label.phrases) for label in labels]
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int) if labels else None

    def similarities(self, embedding: Floats) -> list[tuple[Label, float]]:
        if self._matrix is None or self._starts is None:
            return []
        nearest = np.maximum.reduceat(self._matrix @ embedding, self._starts)
        return list(zip(self._labels, nearest.tolist(), strict=True))


@lru_cache(maxsize=1)
def default_catalogue() -> TopicCatalogue:
    """The packaged catalogue."""
    return read_topics(DEFAULT_TOPICS_PATH)
