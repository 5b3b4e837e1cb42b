"""The index of an endless run: learned from the states and the vectors of one model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from models.encoder.store import publish_model
from models.pane import apply_pane, copy_of
from models.records import FeedbackEvent, ScoredFeedback
from models.state import StateConfig, UserState
from models.text import text_hash
from models.views import ViewPolicy
from pipeline.config import JobConfig
from pipeline.history import KnownScores, score_texts
from pipeline.live.checkpoints import picture, write_checkpoint
from pipeline.live.reindex import rebuild_index
from pipeline.live.state import Done
from tests.models.encoder.tiny import write_tiny
from transforms.live_store import LiveStore

TEXTS = ("good", "bad zipper", "love it")


def checkpoint(folder: Path, vectors: list[tuple[str, str, int]]) -> Path:
    """Of a user who wrote the texts; vectors are (text, model version, dimension), oldest first."""
    store, state = LiveStore(), UserState()
    reviews = [
        FeedbackEvent(f"e{n}", "ann", "review", n, f"item{n}", text=text) for n, text in enumerate(TEXTS)
    ]
    apply_pane(state, [copy_of(ScoredFeedback(each), 0) for each in reviews], StateConfig(), ViewPolicy())
    store.states["ann"] = state.encode()
    for text, version, dimension in vectors:
        unit = np.full(dimension, dimension**-0.5, np.float16).tobytes()
        store.keep_vector(text_hash(text), version, unit)
    done = Done(1, {}, Counter(), {}, 0, 0)
    return write_checkpoint(folder, picture("run", "job", done, store, {}, False))


def test_vectors_of_a_model_that_serves_no_more_are_left_out(tmp_path: Path) -> None:
    config = JobConfig(inputs=("-",), output=str(tmp_path / "out"), model="none")
    newer = [("bad zipper", "newer", 16), ("love it", "newer", 16)]
    learned = {
        name: rebuild_index(config, checkpoint(tmp_path / name, vectors)).name
        for name, vectors in (("mixed", [("good", "older", 8), *newer]), ("newer", newer), ("none", []))
    }
    assert learned["mixed"] == learned["newer"] != learned["none"]


def test_texts_that_were_scored_before_are_scored_anew_by_a_new_model(tmp_path: Path) -> None:
    root = tmp_path / "models"
    config = JobConfig(inputs=("-",), output=str(tmp_path / "out"), model=str(root), threads=1)
    known: KnownScores = {}
    versions = []
    for name, languages in (("first", ["en"]), ("second", ["zh"])):
        artefact = write_tiny(tmp_path / name, languages=languages)
        publish_model(artefact.path, root)
        scores = score_texts(config, ["good", "bad zipper"], known)
        versions.append({result.score.model_version for result in scores.values()})  # type: ignore[union-attr]
        assert versions[-1] == {artefact.version}
    assert len(known) == 4
    assert score_texts(config, ["good"], known)["good"] is known[versions[1].pop(), "good"]
