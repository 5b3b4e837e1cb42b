"""The text lane: a thread that reads the log behind the job, scores what has words, and hands it back.

It reads no further than the bundles that are done, so that what it scores stands in the state; what
it has not come to stays in the log. Its scores return at the end of the next bundle, and its place
is in the checkpoint. So a slow model keeps no list waiting, and holds a few batches in memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol, cast

from models.adapters.base import RawRecord
from models.canary import CanarySum
from models.encoder.artefact import Artefact
from models.encoder.scorer import ScoringResult
from models.encoder.serving import Refusal, Served
from models.ingest import clean_or_reject, parse_or_reject
from models.records import FeedbackEvent
from models.times import wall_clock
from pipeline.config import JobConfig
from pipeline.inputs.growing_files import Place, bytes_between
from pipeline.live.log import LiveLog
from pipeline.live.state import LiveState
from pipeline.live.told import told_error
from transforms.score_late import ScoredBatch, ScoreQueue

#: Texts that are scored together: they wait for one another.
BATCH_TEXTS: Final = 32
#: Records without words that are passed before the lane's place is told.
_PASSED: Final = 20_000
_RETRY_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 0.5
_LOG: Final = logging.getLogger(__name__)


class Scorer(Protocol):
    """What the lane needs of the encoders: a newer one takes over between two batches."""

    def score(self, texts: Sequence[str]) -> Served: ...

    @property
    def artefact(self) -> Artefact: ...


def _unheard(told: object) -> None:
    """It is in the log, at least."""


class TextLane(AbstractContextManager["TextLane"]):
    """Runs from entering to leaving. `refused` is told of new models that are not sound.

    A fault that is not the encoder's ends the lane: it stays in `error`, and `stopped` is told it.
    """

    def __init__(
        self,
        config: JobConfig,
        log: LiveLog,
        scorer: Scorer,
        state: LiveState,
        queue: ScoreQueue,
        refused: Callable[[Refusal], None] = _unheard,
        stopped: Callable[[str], None] = _unheard,
    ) -> None:
        self._config = config
        self._log = log
        self._scorer = scorer
        self._state = state
        self._queue = queue
        self._refused = refused
        self._stopped = stopped
        self._adapter = config.form.adapter
        self._ending = threading.Event()
        self._anew = threading.Event()  # the log is to be read once more, or is being read so
        self._thread = threading.Thread(target=self._run, name="text-lane", daemon=True)
        self._finished = 0  # the bundle up to which all is scored and handed over
        self.texts = 0
        self.seconds = 0.0  # in the encoder
        self.error = ""  # that ended the lane; texts stay without scores from then on
        self.canary = CanarySum()
        queue.cursor = log.places

    def __enter__(self) -> TextLane:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_RETRY_SECONDS)

    def read_anew(self) -> None:
        """Has every text of the log scored by the newest model, whatever scored it before: a drain's last."""
        self._anew.set()

    @property
    def behind(self) -> bool:
        """Whether there is something that was read and is neither scored nor taken."""
        left = (self._finished < self._state.moved or self._anew.is_set()) and self._thread.is_alive()
        return left or self._queue.ready.is_set()

    def bytes_behind(self) -> int:
        """Of the log, that the job has read and whose texts are not scored and taken yet."""
        return bytes_between(cast(Mapping[str, Place], self._queue.cursor), self._state.cursor)

    @property
    def model(self) -> Artefact:
        """That serves now."""
        return self._scorer.artefact

    def _run(self) -> None:
        try:
            self._score_what_comes()
        except Exception as error:  # the lane must not die in silence
            self.error = told_error(error)
            _LOG.error("the text lane stopped, texts get no scores any more: %s", self.error)
            self._stopped(self.error)

    def _score_what_comes(self) -> None:
        while not self._ending.is_set():
            moved = self._state.await_bundle(self._finished, _WAIT_SECONDS)
            anew = self._anew.is_set()
            if moved <= self._finished and not anew:
                continue
            if anew:
                self._log = self._log.from_the_start()
            self._log.follow(self._state.cursor)
            for batch, place in self._batches():
                if not self._hand_over(batch, place):
                    return
            self._finished = moved
            if anew:
                self._anew.clear()

    def _hand_over(self, batch: Sequence[FeedbackEvent], place: Mapping[str, Place]) -> bool:
        """Scores a batch and hands it over; False when the run ends first."""
        scored = self._scored(batch)
        if scored is None:
            return False
        pairs = list(zip(batch, scored, strict=True))
        return self._queue.put(ScoredBatch(pairs, place, self._anew.is_set()), self._ending)

    def _scored(self, batch: Sequence[FeedbackEvent]) -> list[ScoringResult] | None:
        """A failing encoder is asked again and again: the texts stay in the log, lists go on without."""
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                if not batch:
                    return []
                served = self._scorer.score([event.text or "" for event in batch])
            except Exception as error:
                _LOG.error("texts are not scored, and wait: %s", told_error(error))
                self._ending.wait(_RETRY_SECONDS)
                continue
            self.texts += len(batch)
            self.seconds += time.monotonic() - began
            self.canary.add(CanarySum.of_batch((event.text or "" for event in batch), served))
            for refusal in served.refusals:
                self._refused(refusal)
            return served.results
        return None

    def _batches(self) -> Iterator[tuple[list[FeedbackEvent], dict[str, Place]]]:
        batch: list[FeedbackEvent] = []
        passed = 0
        while (record := self._log.take()) is not None:
            passed += 1
            if (event := self._event_with_words(record)) is not None:
                batch.append(event)
            if len(batch) >= BATCH_TEXTS or passed >= _PASSED:
                yield batch, self._log.places
                batch, passed = [], 0
        if passed:
            yield batch, self._log.places

    def _event_with_words(self, record: RawRecord) -> FeedbackEvent | None:
        if self._config.form.name == "jsonl" and b'"text"' not in record[0]:
            return None
        now, cleaning = wall_clock(), self._config.cleaning
        parsed = parse_or_reject(self._adapter, record, cleaning, now)
        if not isinstance(parsed, FeedbackEvent) or parsed.text is None:
            return None
        event = clean_or_reject(parsed, cleaning, now)
        return event if isinstance(event, FeedbackEvent) and event.text is not None else None
