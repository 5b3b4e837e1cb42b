"""An encoder that is slower than it is: to see that lists do not wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from models.encoder.artefact import Artefact
from models.encoder.serving import Served
from pipeline.config import JobConfig
from pipeline.live import run as live
from pipeline.live.text_lane import Scorer


class SlowScorer:
    """Scores as another does, so many seconds later a batch."""

    def __init__(self, scorer: Scorer, seconds: float) -> None:
        self._scorer = scorer
        self._seconds = seconds

    @property
    def artefact(self) -> Artefact:
        return self._scorer.artefact

    def score(self, texts: Sequence[str]) -> Served:
        time.sleep(self._seconds)
        return self._scorer.score(texts)


@contextmanager
def slow_encoder(seconds: float) -> Iterator[None]:
    """Endless runs of this process score with so many seconds more a batch."""
    load = live._scorer

    def slow(config: JobConfig) -> Scorer:
        return SlowScorer(load(config), seconds)

    live._scorer = slow
    try:
        yield
    finally:
        live._scorer = load
