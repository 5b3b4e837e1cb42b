"""A model that takes five seconds for a batch; workers import it from here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from models.encoder.serving import ScorerPool
from models.records import FeedbackEvent
from transforms.score_feedback import CanaryTold, ScoredEvent, TextModelHandler

HOLD_SECONDS: Final = 5.0


class HeldModel(TextModelHandler):
    """The model that ships, held."""

    def run_inference(
        self,
        batch: Sequence[FeedbackEvent],
        model: ScorerPool,
        inference_args: Mapping[str, object] | None = None,
    ) -> Iterable[ScoredEvent | CanaryTold]:
        time.sleep(HOLD_SECONDS)
        return super().run_inference(batch, model, inference_args)
