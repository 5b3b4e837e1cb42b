"""ScoreFeedback: what the encoder reads in each event's text, by Beam's RunInference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
from apache_beam import typehints
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput

from models.canary import CanarySum
from models.encoder.scorer import ScoringFailure, ScoringResult
from models.encoder.serving import SHIPPED, ScorerPool, ServingConfig, shared_pool
from models.encoder.session import CPU_PROVIDERS
from models.errors import BadRecord
from models.records import FeedbackEvent, ScoredFeedback
from models.rejects import reject_event
from models.text import text_hash
from models.times import wall_clock
from transforms.encoder_metrics import record_batch
from transforms.run_inference import ModelHandler, RunInference

STAGE: Final = "score"
#: Told beside the sum: texts so long that the encoder did not read their middle.
READ_IN_PART: Final = "note.texts_read_in_part"
#: Events that are gathered before the encoder is called, within a bundle: enough that each distinct text
#: is seen once and every thread stays busy, few enough to hold in memory.
BATCH_EVENTS: Final = 1024

ScoredEvent = tuple[FeedbackEvent, ScoringResult | None]
#: What the comparison with a canary came to, which goes beside the events.
CanaryTold = tuple[None, CanarySum]


@dataclass
class ScoreFeedback(beam.PTransform):
    """PCollection[FeedbackEvent] -> scored, text_vectors, comparisons, accounting, dead_letters.

    `scored` are ScoredFeedback, without a score where there is no text; `text_vectors` are (text hash,
    model version, unit embedding as float16 bytes), each text once a bundle; `comparisons` are
    CanarySum of batches, none without a canary; `accounting` are (code, count); `dead_letters` are the
    events whose text could not be scored, alone. A `model_path` of None scores nothing: every event
    passes; "default" is the model that ships with the project, wherever a worker has it installed; a folder
    with a pointer file is looked at every `poll_seconds`, between batches, for a newer artefact.
    `topics_path` None takes the packaged catalogue, `threads` 0 one thread a core. `canary_model` reads
    `canary_share` of the texts besides, and is compared; its scores go nowhere.
    """

    model_path: str | None = SHIPPED
    providers: tuple[str, ...] = CPU_PROVIDERS
    topics_path: str | None = None
    threads: int = 0
    poll_seconds: float = 5.0
    canary_model: str | None = None
    canary_share: float = 0.05

    def serving(self) -> ServingConfig | None:
        """What the workers make their scorers from; None without a model."""
        if self.model_path is None:
            return None
        return ServingConfig(
            self.model_path, self.topics_path, self.providers, self.threads,
            self.poll_seconds, self.canary_model, self.canary_share,
        )  # fmt: skip

    def load(self) -> ScorerPool | None:
        """The scorers, here and now: a local run calls this to find a missing model before it starts.

        Raises DeploymentError when the model or a provider is not there, or the topics file is wrong.
        """
        config = self.serving()
        return None if config is None else shared_pool(config)

    def expand(self, events: beam.PCollection[FeedbackEvent]) -> DoOutputsTuple:
        config = self.serving()
        if config is None:
            read = events | "WithoutModel" >> beam.Map(without_score)
        else:
            handler = TextModelHandler(config, tells_canary=config.canary_model is not None)
            read = events | "RunEncoder" >> RunInference(handler)
        return read | "SplitResults" >> beam.ParDo(_SplitResults()).with_outputs(
            "text_vectors", "comparisons", "accounting", "dead_letters", main="scored"
        )


def without_score(event: FeedbackEvent) -> ScoredEvent:
    """An event as it passes when there is no model."""
    return event, None


class TextModelHandler(ModelHandler[FeedbackEvent, ScoredEvent, ScorerPool]):
    """The encoder behind RunInference: events in, the same events with their text's result out.

    Events without text pass untouched: keeping them in the batch is cheaper than a branch of the job.
    With `tells_canary` what a batch's comparison came to follows its events, without an event.
    """

    def __init__(self, config: ServingConfig, tells_canary: bool = False) -> None:
        super().__init__()
        self._config = config
        self._tells_canary = tells_canary

    def load_model(self) -> ScorerPool:
        """The process's scorers; some runners ask again for every bundle."""
        return shared_pool(self._config)

    def run_inference(
        self,
        batch: Sequence[FeedbackEvent],
        model: ScorerPool,
        inference_args: Mapping[str, object] | None = None,
    ) -> Iterable[ScoredEvent | CanaryTold]:
        """Scores the texts of a batch, all by one model version; a text that cannot be scored fails alone."""
        texts = [event.text for event in batch if event.text is not None]
        if not texts:
            return [(event, None) for event in batch]
        served = model.score(texts)
        record_batch(served)
        remaining = iter(served.results)
        scored: list[ScoredEvent | CanaryTold] = [
            (event, None if event.text is None else next(remaining)) for event in batch
        ]
        if self._tells_canary:
            scored.append((None, CanarySum.of_batch(texts, served)))
        return scored

    def batch_elements_kwargs(self) -> Mapping[str, int]:
        """A fixed size: a growing one would begin with batches too small to find repeats in."""
        return {"min_batch_size": BATCH_EVENTS, "max_batch_size": BATCH_EVENTS}

    def get_num_bytes(self, batch: Sequence[FeedbackEvent]) -> int:
        """Characters of text; the default would pickle every event."""
        return sum(len(event.text) for event in batch if event.text is not None)

    def get_metrics_namespace(self) -> str:
        """Of RunInference's own metrics."""
        return "score_feedback"


@typehints.with_output_types(ScoredFeedback)
class _SplitResults(beam.DoFn):
    """Scores, vectors and failures to their outputs; a text's vector once a bundle."""

    def __init__(self) -> None:
        self._told: set[tuple[int, str]] = set()

    def start_bundle(self) -> None:
        self._told = set()

    def process(self, scored: ScoredEvent | CanaryTold) -> Iterable[ScoredFeedback | TaggedOutput]:
        if isinstance(scored[1], CanarySum):
            return (TaggedOutput("comparisons", scored[1]),)
        event, result = scored
        assert event is not None
        if result is None or event.text is None:
            return (ScoredFeedback(event),)
        if isinstance(result, ScoringFailure):
            error = BadRecord("scoring_failed", result.reason)
            return (TaggedOutput("dead_letters", reject_event(STAGE, error, event, wall_clock())),)
        found: list[ScoredFeedback | TaggedOutput] = [ScoredFeedback(event, result.score)]
        if result.cut:
            found.append(TaggedOutput("accounting", (READ_IN_PART, 1)))
        told = (text_hash(event.text), result.score.model_version)
        if told not in self._told:
            self._told.add(told)
            found.append(TaggedOutput("text_vectors", (*told, result.embedding)))
        return found
