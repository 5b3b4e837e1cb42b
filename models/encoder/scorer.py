"""Scores texts: tokenize, encode, and read sentiment, topics, intent and language from the result.

No result depends on what else is scored: an int8 artefact reads every text alone, at its exact length, to the
bit the same; the calling threads share one session, which on two cores reaches the speed of batches sorted by
length. A batched artefact has one shape for every length (models/encoder/grid.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np

from models.encoder.artefact import DEFAULT_MODEL_PATH, Artefact, load_artefact
from models.encoder.encoders import shared_encoder
from models.encoder.manifest import SENTIMENT_LABELS
from models.encoder.reading import ScoreReader, require_probes
from models.encoder.recent import RecentTexts
from models.encoder.session import CPU_PROVIDERS, Encoder, EncoderOutput, Floats
from models.encoder.tokens import EncoderInput, TextEncoder
from models.encoder.topics import LabelMatcher, TopicCatalogue, default_catalogue, read_topics
from models.pointer import read_pointer
from models.records import ScoredText

CACHED_TEXTS: Final = 8_192


@dataclass(frozen=True, slots=True)
class ScoringFailure:
    """Why one text has no score; its neighbours have theirs."""

    reason: str


ScoringResult: TypeAlias = ScoredText | ScoringFailure
Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """What one call of `score_batch` did."""

    texts: int  # asked for, repeats included
    cache_hits: int  # found in the cache, or repeated within the call
    encoded: int
    calls: int  # of the graph
    tokens: int  # of the encoded, after cutting
    computed_tokens: int  # the same and the padding
    cut: int  # encoded texts that lost their middle
    failed: int  # distinct texts without a score
    seconds: float  # wall clock


class TextScorer:
    """Scores texts with one artefact. Safe to call from many threads."""

    def __init__(
        self,
        artefact_path: str | Path = DEFAULT_MODEL_PATH,
        providers: Sequence[str] = CPU_PROVIDERS,
        threads: int = 0,
        topics: TopicCatalogue | None = None,
    ) -> None:
        """`threads` = 0 takes one a core; `topics` = None the packaged catalogue.

        A folder with a pointer file stands for the artefact that it names. Raises DeploymentError when the
        artefact is missing or damaged, its parts do not fit together, it does not give what it gave when it
        was exported, or a provider is not there.
        """
        if threads < 0:
            raise ValueError(f"threads must be at least 1, or 0 for one a core, got {threads}")
        artefact = load_artefact(read_pointer(Path(artefact_path)) or artefact_path)
        self._inputs = TextEncoder(artefact)
        self._encoder: Encoder = shared_encoder(artefact, providers)
        self.artefact: Artefact = self._encoder.artefact
        require_probes(self.artefact, self._inputs, self._encoder)
        count = threads or usable_cores()
        self._pool = ThreadPoolExecutor(count, "encoder") if count > 1 else None
        self._cache = RecentTexts(CACHED_TEXTS)
        self.texts = 0  # answered so far, repeats included; for displays
        self._reader = ScoreReader(
            self.artefact, self._inputs.tokenizer, LabelMatcher(topics or default_catalogue(), self.embed)
        )

    @classmethod
    def load(
        cls,
        model_path: str | Path | None = None,
        topics_path: str | Path | None = None,
        providers: Sequence[str] = CPU_PROVIDERS,
        threads: int = 0,
    ) -> TextScorer:
        """A scorer from paths as flags give them; None stands for what ships with the project."""
        topics = None if topics_path is None else read_topics(topics_path)
        return cls(DEFAULT_MODEL_PATH if model_path is None else model_path, providers, threads, topics)

    @property
    def model_version(self) -> str:
        """Names every score this scorer makes."""
        return self.artefact.version

    def score(self, texts: Sequence[str]) -> list[ScoringResult]:
        """One result a text, in order; each distinct text is encoded once."""
        return self.score_batch(texts)[0]

    def score_batch(self, texts: Sequence[str]) -> tuple[list[ScoringResult], BatchStatistics]:
        """As `score`, and what it took."""
        started = time.perf_counter()
        results: dict[str, ScoringResult] = dict(self._cache.get_all(dict.fromkeys(texts)))
        fresh = [text for text in dict.fromkeys(texts) if text not in results]
        faults = {text: ScoringFailure(fault) for text in fresh if (fault := unreadable(text))}
        readable = [text for text in fresh if text not in faults]
        self.texts += len(texts) - len(readable)
        inputs = self._inputs.encode(readable)
        groups = self._encoder.plan(inputs)
        computed = sum(self._encoder.computed_tokens([inputs[i] for i in group]) for group in groups)
        scored = self._score_groups(readable, inputs, groups)
        self._cache.put_all(scored)
        results |= faults | scored
        statistics = BatchStatistics(
            texts=len(texts),
            cache_hits=len(texts) - len(fresh),
            encoded=len(inputs),
            calls=len(groups),
            tokens=sum(len(features.ids) for features in inputs),
            computed_tokens=computed,
            cut=sum(features.cut for features in inputs),
            failed=sum(isinstance(results[text], ScoringFailure) for text in fresh),
            seconds=time.perf_counter() - started,
        )
        return [results[text] for text in texts], statistics

    def forget(self) -> None:
        """Empties the cache of recent texts, for measurements."""
        self._cache = RecentTexts(CACHED_TEXTS)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of shape (texts, dimension), float32."""
        inputs = self._inputs.encode(texts)
        vectors = np.empty((len(texts), self.artefact.dimension), np.float32)
        groups = self._encoder.plan(inputs)
        outputs = self._map(lambda group: self._encoder.run([inputs[i] for i in group]), groups)
        for group, found in zip(groups, outputs, strict=True):
            vectors[group] = [output.embedding for output in found]
        return vectors

    def _score_groups(
        self, texts: Sequence[str], inputs: Sequence[EncoderInput], groups: Sequence[list[int]]
    ) -> dict[str, ScoringResult]:
        def score(group: list[int]) -> list[ScoringResult]:
            found = self._score_group([texts[i] for i in group], [inputs[i] for i in group])
            self.texts += len(group)
            return found

        scored = self._map(score, groups)
        return {
            texts[i]: result
            for group, results in zip(groups, scored, strict=True)
            for i, result in zip(group, results, strict=True)
        }

    def _score_group(self, texts: Sequence[str], inputs: Sequence[EncoderInput]) -> list[ScoringResult]:
        """The results of texts that share a call; when it fails, each text is tried alone."""
        try:
            outputs = self._encoder.run(inputs)
        except Exception as error:  # whatever the runtime raises concerns these texts alone
            if len(texts) == 1:
                return [
                    ScoringFailure(f"the encoder failed on a text of {len(inputs[0].ids)} tokens: {error}")
                ]
            return [self._score_group([t], [features])[0] for t, features in zip(texts, inputs, strict=True)]
        return [self._read(*parts) for parts in zip(texts, inputs, outputs, strict=True)]

    def _read(self, text: str, features: EncoderInput, output: EncoderOutput) -> ScoringResult:
        if not np.isfinite(output.embedding).all():
            return ScoringFailure("the encoder gave numbers that are not finite for this text")
        unknown = self._inputs.tokenizer.unknown_share(text, features.ids)
        return self._reader.read(text, output, unknown, features.cut)

    def _map(self, call: Callable[[Argument], Result], arguments: Sequence[Argument]) -> list[Result]:
        """Calls on every thread; the first argument goes first."""
        if self._pool is None or len(arguments) < 2:
            return [call(argument) for argument in arguments]
        return list(self._pool.map(call, arguments))


def usable_cores() -> int:
    """The cores this process may run on, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unreadable(text: object) -> str:
    """Why a text cannot be scored; empty when it can."""
    if not isinstance(text, str):
        return f"expected text, got {type(text).__name__}"
    if not text.strip():
        return "expected words, got an empty text"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"character {error.start} is half of a surrogate pair; send valid Unicode"
    return ""


def score_as_json(result: ScoringResult) -> dict[str, object]:
    """What people see of one result; a failure is `{"error": reason}`, and a cut text says that it was."""
    if isinstance(result, ScoringFailure):
        return {"error": result.reason}
    score = result.score
    return {
        "polarity": score.polarity,
        "intensity": score.intensity,
        "sentiment": dict(zip(SENTIMENT_LABELS, score.sentiment, strict=True)),
        "topics": dict(score.topics),
        "intent": score.intent,
        "confidence": score.confidence,
        "language": score.language,
        **({"cut": True} if result.cut else {}),
    }
