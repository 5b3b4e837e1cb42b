"""Models and indexes that are swapped under a job on a cluster: whole ones serve, broken ones never do."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest

from models.encoder.artefact import MODEL_NAME, Artefact
from models.encoder.scorer import TextScorer
from models.encoder.store import publish_model
from models.pointer import write_pointer
from models.ranking.index import read_pointer
from pipeline.cluster.settings import ClusterSettings
from tests.flink.harness import Scenario, assert_equals_oracle
from tests.models.encoder.tiny import write_tiny
from tests.oracle import ScorerAsRecorded, assert_rows_name_what_made_them
from tests.pipeline.live.feedback_log import ITEMS, START, Event, burst, run, shop_log, write_log
from tests.pipeline.live.runs import append, await_that

pytestmark = [pytest.mark.flink]
#: Models and indexes that one job takes up, in turns.
_SWAPS: Final = int(os.environ.get("LIVELIST_FLINK_SWAPS", "4"))
_WORDS: Final = ("good , it broke", "bad zipper", "love it", "hate the zipper .")
_USERS: Final = tuple(f"user{number:02d}" for number in range(14))


class Shop:
    """A job, two models that read the same words otherwise, and two indexes."""

    def __init__(self, settings: ClusterSettings, folder: Path) -> None:
        self.models = folder / "models"
        made = write_tiny(folder / "both"), write_tiny(folder / "chinese", languages=["zh"])
        self.artefacts = tuple(TextScorer.load(each.path, threads=1).artefact for each in made)
        publish_model(self.artefacts[0].path, self.models)
        options = {"model": str(self.models), "model_poll_seconds": 0.2, "threads": 1}
        self.sent = 0
        log = [self._in_known_words(event) for event in shop_log()]
        self.job = Scenario(settings, folder / "job", "swaps", log, {"parallelism": 2}, options=options)
        first = read_pointer(self.job.output)
        more = write_log(folder / "more.jsonl", [*shop_log(), *burst(7, 60)])
        run(folder / "second", more, model="none")
        other = read_pointer(folder / "second")
        assert first is not None and other is not None
        self.indexes = first, shutil.copytree(other, self.job.output / "index" / other.name)

    def _in_known_words(self, event: Event) -> Event:
        """No two texts of the log are the same, so that each tells which model read it."""
        self.sent += 1
        known = f"{_WORDS[self.sent % len(_WORDS)]} {self.sent}"
        return event | {"text": known} if "text" in event else event

    def send(self, *users: str) -> set[str]:
        """A review of each; returns the ids of the events."""
        sent = []
        for user in users:
            event: Event = {
                "event_id": f"s{self.sent}",
                "user_id": user,
                "kind": "review",
                "event_time": START + 100_000 + self.sent,
                "item_id": ITEMS[self.sent % len(ITEMS)],
                "text": "",
            }
            sent.append(self._in_known_words(event))
        append(self.job.inputs / "more.jsonl", *sent)
        return {event["event_id"] for event in sent}

    def await_served(self, model: Artefact, index: Path) -> None:
        """Sends reviews of everybody until a round is read by that model and ranked on that index alone."""
        await_that(lambda: self._round() == ({model.version}, {index.name}), 120)

    def _round(self) -> tuple[set[str], set[str]]:
        """The models that read a review of everybody, and the indexes that everybody's list is of then."""
        events, began = self.send(*_USERS), time.time()
        read: list[dict[str, Any]] = []
        while len(read) < len(events) and time.time() < began + 30:
            time.sleep(0.2)
            rows = self.rows("scored_feedback", "event_id", "model_version")
            read = [row for row in rows if row["event_id"] in events and row["model_version"]]
        assert len(read) == len(events), f"{len(read)} of {len(events)} reviews were read"
        latest = self.rows("recommendations_latest", "user_id", "index_version")
        assert {row["user_id"] for row in latest} >= set(_USERS), "a list is gone"
        return {row["model_version"] for row in read}, {row["index_version"] for row in latest}

    def rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        """Of a table, as far as it is there."""
        folder = self.job.output / table
        if not list(folder.glob("*.parquet")):
            return []
        found: list[dict[str, Any]] = pq.read_table(folder, columns=list(columns)).to_pylist()
        return found

    def take_up(self, model: Artefact, index: Path) -> None:
        """Publishes both, and waits until they serve."""
        publish_model(model.path, self.models)
        write_pointer(self.job.output / "index", index.name)
        self.await_served(model, index)

    def refused(self) -> list[str]:
        """The kinds of the alerts so far."""
        return sorted(row["kind"] for row in self.rows("alerts", "kind"))


def break_a_file(whole: Path, broken: Path, name: str) -> None:
    """A copy with half of one file."""
    shutil.copytree(whole, broken)
    content = (broken / name).read_bytes()
    (broken / name).write_bytes(content[: len(content) // 2])


def test_swaps_lose_no_list_and_what_is_broken_is_refused(settings: ClusterSettings, tmp_path: Path) -> None:
    shop = Shop(settings, tmp_path)
    shop.job.write(1.0)
    shop.job.start()
    shop.job.await_rows()
    for swap in range(_SWAPS):  # a model, an index, a model ...
        shop.take_up(shop.artefacts[(swap + 1) // 2 % 2], shop.indexes[swap // 2 % 2])
    serving = shop.artefacts[_SWAPS // 2 % 2], shop.indexes[(_SWAPS - 1) // 2 % 2]
    break_a_file(shop.artefacts[0].path, shop.models / "broken", MODEL_NAME)
    write_pointer(shop.models, "broken")
    break_a_file(shop.indexes[0], shop.job.output / "index" / "broken", "popularity.npy")
    write_pointer(shop.job.output / "index", "broken")
    await_that(partial(told, shop, ["index_refused", "model_refused"]), 120)
    shop.await_served(*serving)
    shop.take_up(shop.artefacts[1], shop.indexes[1])
    shop.job.finish()
    assert shop.refused() == ["index_refused", "model_refused"]
    shop.job.scorer = ScorerAsRecorded(shop.job.output, shop.job.inputs, shop.artefacts)
    assert_equals_oracle(shop.job)
    assert_rows_name_what_made_them(shop.job.output, shop.job.inputs, shop.artefacts, shop.indexes)


def told(shop: Shop, kinds: list[str]) -> bool:
    """Whether these alerts stand there; sends feedback, for without any no worker looks what is published."""
    shop.send(*_USERS[:3])
    time.sleep(1)
    return shop.refused() == kinds
