"""Scores texts: tokenize, encode, and read sentiment, topics, intent and language from the result.

Every text is encoded alone, at its exact length: its result cannot depend on its neighbours, to the bit,
so a retry repeats itself. The calling threads share one session; on two cores this reaches the speed of
batches sorted by length.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.encoder.artefact import DEFAULT_MODEL_PATH, SENTIMENT_LABELS, load_artefact
from models.encoder.language import detect_language
from models.encoder.session import CPU_PROVIDERS, EncoderOutput, Floats, shared_session
from models.encoder.tokens import TextTokenizer
from models.encoder.topics import LabelMatcher, TopicCatalogue, default_catalogue, read_topics
from models.records import ScoredText, TextScore

#: The most confidence, and the most |polarity|, given to a text in a language the model was not taught,
#: or of which it knows less than half the words.
UNKNOWN_LANGUAGE_CONFIDENCE: Final = 0.2
UNKNOWN_TOKEN_SHARE: Final = 0.5
CACHED_TEXTS: Final = 8_192
CACHED_CHARACTERS: Final = 4_000  # a longer text is not kept

SCORE_DECIMALS: Final = 4
TOPIC_DECIMALS: Final = 3


@dataclass(frozen=True, slots=True)
class ScoringFailure:
    """Why one text has no score; its neighbours have theirs."""

    reason: str


ScoringResult: TypeAlias = ScoredText | ScoringFailure
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """What one call of `score_batch` did."""

    texts: int  # asked for, repeats included
    cache_hits: int  # found in the cache, or repeated within the call
    encoded: int
    tokens: int  # of the encoded, after cutting
    cut: int  # encoded texts that may have lost their middle: they fill the model's length
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

        Raises DeploymentError when the artefact is missing or damaged, or a provider is not there.
        """
        if threads < 0:
            raise ValueError(f"threads must be at least 1, or 0 for one a core, got {threads}")
        artefact = load_artefact(artefact_path)
        self.artefact = artefact
        self._session = shared_session(artefact, providers)
        self._tokenizer = TextTokenizer(artefact.tokenizer, artefact.max_length)
        count = threads or usable_cores()
        self._pool = ThreadPoolExecutor(count, "encoder") if count > 1 else None
        self._cache = _RecentTexts(CACHED_TEXTS)
        self._labels = LabelMatcher(topics or default_catalogue(), self.embed)

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
        results = self._cache.get_all(dict.fromkeys(texts))
        fresh = [text for text in dict.fromkeys(texts) if text not in results]
        faults = {text: ScoringFailure(fault) for text in fresh if (fault := unreadable(text))}
        readable = [text for text in fresh if text not in faults]
        ids = self._tokenizer.encode(readable)
        scored = dict(zip(readable, self._map(self._score_one, readable, ids), strict=True))
        self._cache.put_all(scored)
        results |= faults | scored
        statistics = BatchStatistics(
            texts=len(texts),
            cache_hits=len(texts) - len(fresh),
            encoded=len(ids),
            tokens=sum(map(len, ids)),
            cut=sum(len(tokens) == self.artefact.max_length for tokens in ids),
            failed=sum(isinstance(results[text], ScoringFailure) for text in fresh),
            seconds=time.perf_counter() - started,
        )
        return [results[text] for text in texts], statistics

    def forget(self) -> None:
        """Empties the cache of recent texts, for measurements."""
        self._cache = _RecentTexts(CACHED_TEXTS)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of shape (texts, dimension), float32."""
        outputs = self._map(lambda _, ids: self._session.run(ids), texts, self._tokenizer.encode(texts))
        return np.stack([output.embedding for output in outputs])

    def _map(
        self, call: Callable[[str, list[int]], Result], texts: Sequence[str], ids: Sequence[list[int]]
    ) -> list[Result]:
        """Calls on every thread, the longest texts first so that none is left alone at the end."""
        if self._pool is None or len(ids) < 2:
            return [call(text, tokens) for text, tokens in zip(texts, ids, strict=True)]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        futures = {i: self._pool.submit(call, texts[i], ids[i]) for i in order}
        return [futures[i].result() for i in range(len(ids))]

    def _score_one(self, text: str, ids: list[int]) -> ScoringResult:
        try:
            output = self._session.run(ids)
            if not np.isfinite(output.embedding).all():
                return ScoringFailure("the encoder gave numbers that are not finite for this text")
            return self._read(text, ids, output)
        except Exception as error:  # whatever the runtime raises concerns this text alone
            return ScoringFailure(f"the encoder failed on a text of {len(ids)} tokens: {error}")

    def _read(self, text: str, ids: list[int], output: EncoderOutput) -> ScoredText:
        language = detect_language(text)
        known = (
            language in self.artefact.languages and self._tokenizer.unknown_share(ids) < UNKNOWN_TOKEN_SHARE
        )
        sentiment, confidence = trusted_sentiment(output.sentiment, known)
        polarity = sentiment[2] - sentiment[0]
        score = TextScore(
            sentiment=(sentiment[0], sentiment[1], sentiment[2]),
            polarity=round(polarity, SCORE_DECIMALS),
            intensity=round(output.intensity, SCORE_DECIMALS),
            confidence=confidence,
            topics=tuple((n, round(c, TOPIC_DECIMALS)) for n, c in self._labels.topics(output.embedding)),
            intent=self._labels.intent(output.embedding, text, polarity),
            language=language,
            model_version=self.model_version,
        )
        return ScoredText(score, output.embedding.astype("<f2").tobytes())


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


def trusted_sentiment(probabilities: Floats, known: bool) -> tuple[list[float], float]:
    """Rounded probabilities and the confidence in them.

    Confidence is the probability of the likeliest label: the heads' logits carry a temperature fitted on
    texts they did not learn from, so .8 is right about four times in five. A text that the model cannot
    read is mixed with the uniform distribution, so that neither number says more than
    `UNKNOWN_LANGUAGE_CONFIDENCE`.
    """
    p = probabilities.astype(np.float64)
    if known:
        return _rounded(p), round(float(p.max()), SCORE_DECIMALS)
    mixed = (1 - UNKNOWN_LANGUAGE_CONFIDENCE) / len(p) + UNKNOWN_LANGUAGE_CONFIDENCE * p
    return _rounded(mixed), UNKNOWN_LANGUAGE_CONFIDENCE


def _rounded(p: NDArray[np.float64]) -> list[float]:
    """Probabilities with few decimals that still add up to 1; neutral takes the remainder."""
    negative, positive = round(float(p[0]), SCORE_DECIMALS), round(float(p[2]), SCORE_DECIMALS)
    return [negative, round(max(0.0, 1 - negative - positive), SCORE_DECIMALS), positive]


def score_as_json(result: ScoringResult) -> dict[str, object]:
    """What people see of one result; a failure is `{"error": reason}`."""
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
    }


class _RecentTexts:
    """The results of the most recently used texts. Failures are not kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[str, ScoredText] = OrderedDict()
        self._lock = threading.Lock()

    def get_all(self, texts: Iterable[str]) -> dict[str, ScoringResult]:
        found: dict[str, ScoringResult] = {}
        with self._lock:
            for text in texts:
                if text in self._results:
                    self._results.move_to_end(text)
                    found[text] = self._results[text]
        return found

    def put_all(self, results: Mapping[str, ScoringResult]) -> None:
        with self._lock:
            for text, result in results.items():
                if isinstance(result, ScoredText) and len(text) <= CACHED_CHARACTERS:
                    self._results[text] = result
            while len(self._results) > self._size:
                self._results.popitem(last=False)
