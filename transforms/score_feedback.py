"""ScoreFeedback: what the encoder reads in each event's text, by Beam's RunInference."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
from apache_beam import typehints
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput

from models.encoder.artefact import DEFAULT_MODEL_PATH, read_manifest
from models.encoder.scorer import (
    BatchStatistics,
    ScoringFailure,
    ScoringResult,
    TextScorer,
)
from models.encoder.session import CPU_PROVIDERS
from models.errors import BadRecord
from models.records import FeedbackEvent, ScoredFeedback
from models.rejects import reject_event
from models.text import text_hash
from models.times import wall_clock

STAGE: Final = "score"
#: The `model_path` of the model that ships with the project.
SHIPPED: Final = "default"
#: Events that are gathered before the encoder is called, within a bundle: enough that each distinct text
#: is seen once and every thread stays busy, few enough to hold in memory.
BATCH_EVENTS: Final = 1024

ScoredEvent = tuple[FeedbackEvent, ScoringResult | None]


@dataclass
class ScoreFeedback(beam.PTransform):
    """PCollection[FeedbackEvent] -> scored, text_vectors, dead_letters.

    `scored` are ScoredFeedback, without a score where there is no text; `text_vectors` are (text hash,
    model version, unit embedding as float16 bytes), each text once a bundle; `dead_letters` are the
    events whose text could not be scored, alone. A `model_path` of None scores nothing: every event
    passes; "default" is the model that ships with the project, wherever a worker has it installed.
    `topics_path` None takes the packaged catalogue, `threads` 0 one thread a core.
    """

    model_path: str | None = SHIPPED
    providers: tuple[str, ...] = CPU_PROVIDERS
    topics_path: str | None = None
    threads: int = 0

    def load(self) -> TextScorer | None:
        """The scorer, here and now: a local run calls this to find a missing model before it starts.

        Raises DeploymentError when the model or a provider is not there, or the topics file is wrong.
        """
        if self.model_path is None:
            return None
        return shared_scorer(self.model_path, self.topics_path, self.providers, self.threads)

    def expand(self, events: beam.PCollection[FeedbackEvent]) -> DoOutputsTuple:
        if self.model_path is None:
            read = events | "WithoutModel" >> beam.Map(without_score)
        else:
            handler = TextModelHandler(self.model_path, self.providers, self.topics_path, self.threads)
            read = events | "RunEncoder" >> RunInference(handler)
        return read | "SplitResults" >> beam.ParDo(_SplitResults()).with_outputs(
            "text_vectors", "dead_letters", main="scored"
        )


def without_score(event: FeedbackEvent) -> ScoredEvent:
    """An event as it passes when there is no model."""
    return event, None


class TextModelHandler(ModelHandler[FeedbackEvent, ScoredEvent, TextScorer]):
    """The encoder behind RunInference: events in, the same events with their text's result out.

    Events without text pass untouched: keeping them in the batch is cheaper than a branch of the job.
    """

    def __init__(
        self, model_path: str, providers: tuple[str, ...], topics_path: str | None, threads: int
    ) -> None:
        super().__init__()
        self._arguments = (model_path, topics_path, providers, threads)

    def load_model(self) -> TextScorer:
        """The process's scorer; some runners ask again for every bundle."""
        return shared_scorer(*self._arguments)

    def run_inference(
        self,
        batch: Sequence[FeedbackEvent],
        model: TextScorer,
        inference_args: Mapping[str, object] | None = None,
    ) -> Iterable[ScoredEvent]:
        """Scores the texts of a batch; a text that cannot be scored fails alone."""
        texts = [event.text for event in batch if event.text is not None]
        if not texts:
            return [(event, None) for event in batch]
        results, statistics = model.score_batch(texts)
        _EncoderMetrics.of(model.model_version).record(statistics)
        remaining = iter(results)
        return [(event, None if event.text is None else next(remaining)) for event in batch]

    def batch_elements_kwargs(self) -> Mapping[str, int]:
        """A fixed size: a growing one would begin with batches too small to find repeats in."""
        return {"min_batch_size": BATCH_EVENTS, "max_batch_size": BATCH_EVENTS}

    def get_num_bytes(self, batch: Sequence[FeedbackEvent]) -> int:
        """Characters of text; the default would pickle every event."""
        return sum(len(event.text) for event in batch if event.text is not None)

    def get_metrics_namespace(self) -> str:
        """Of RunInference's own metrics."""
        return "score_feedback"


_scorers: dict[tuple[object, ...], TextScorer] = {}
_scorers_lock = threading.Lock()


def shared_scorer(
    model_path: str, topics_path: str | None, providers: tuple[str, ...], threads: int
) -> TextScorer:
    """One scorer a process for each configuration and model version, with its cache of recent texts."""
    path = DEFAULT_MODEL_PATH if model_path == SHIPPED else model_path
    version = read_manifest(path).get("version")
    key = (path, version, topics_path, providers, threads)
    with _scorers_lock:
        if key not in _scorers:
            _scorers[key] = TextScorer.load(path, topics_path, providers, threads)
        return _scorers[key]


class _EncoderMetrics:
    """Beam metrics of one model version, in the namespace `encoder.<version>`."""

    _made: Final[dict[str, _EncoderMetrics]] = {}

    def __init__(self, version: str) -> None:
        namespace = f"encoder.{version}"
        self._counters = {
            name: Metrics.counter(namespace, name)
            for name in ("texts", "cache_hits", "encoded", "tokens", "cut", "failed")
        }
        self._batch_texts = Metrics.distribution(namespace, "batch_texts")
        self._latency = Metrics.distribution(namespace, "batch_latency_micros")

    @classmethod
    def of(cls, version: str) -> _EncoderMetrics:
        """The metrics of a version, made when first asked for."""
        return cls._made.setdefault(version, cls(version))

    def record(self, statistics: BatchStatistics) -> None:
        """Adds what one batch did."""
        for name, counter in self._counters.items():
            counter.inc(getattr(statistics, name))
        self._batch_texts.update(statistics.texts)
        self._latency.update(round(statistics.seconds * 1e6))


@typehints.with_output_types(ScoredFeedback)
class _SplitResults(beam.DoFn):
    """Scores, vectors and failures to their outputs; a text's vector once a bundle."""

    def __init__(self) -> None:
        self._told: set[tuple[int, str]] = set()

    def start_bundle(self) -> None:
        self._told = set()

    def process(self, scored: ScoredEvent) -> Iterable[ScoredFeedback | TaggedOutput]:
        event, result = scored
        if result is None or event.text is None:
            return (ScoredFeedback(event),)
        if isinstance(result, ScoringFailure):
            error = BadRecord("scoring_failed", result.reason)
            return (TaggedOutput("dead_letters", reject_event(STAGE, error, event, wall_clock())),)
        row = ScoredFeedback(event, result.score)
        told = (text_hash(event.text), result.score.model_version)
        if told in self._told:
            return (row,)
        self._told.add(told)
        return (row, TaggedOutput("text_vectors", (*told, result.embedding)))
