"""Models and indexes that are swapped under an endless run: whole ones are taken up, broken ones never."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from models.encoder.artefact import MANIFEST_NAME, MODEL_NAME, TOKENIZER_NAME, Artefact
from models.encoder.scorer import TextScorer
from models.encoder.serving import ScorerPool, ServingConfig, shared_pool
from models.encoder.store import publish_model
from models.pointer import read_pointer, write_pointer
from models.records import TopK
from pipeline.live.run import LiveRun
from tests.models.encoder.tiny import write_tiny
from tests.oracle import assert_books_close, assert_rows_name_what_made_them, current_lists, expected_lists
from tests.pipeline.live.feedback_log import Event, burst, run, shop_log, table, write_log
from tests.pipeline.live.runs import K, append, await_that, lines_in, live_run, pinned, users_of

#: Models and indexes that one run takes up, in turns.
SWAPS: Final = int(os.environ.get("LIVELIST_SWAPS", "12"))
_POLL_SECONDS: Final = 0.05
WORDS: Final = ("good , it broke", "bad zipper", "love it", "hate the zipper .")


@dataclass
class Shop:
    """A run's log, two models that read the same words otherwise, and two indexes."""

    events: Path
    output: Path
    models: Path
    artefacts: tuple[Artefact, Artefact]
    indexes: tuple[Path, Path]
    version: str = ""  # of the index behind the list that came out last
    sent: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """Of a run that takes up what is published here."""
        return {
            "model": str(self.models),
            "model_poll_seconds": _POLL_SECONDS,
            "reindex_every_seconds": 0,
            "rerank_at_drain": True,
            "snapshot_every_seconds": 1,
            "threads": 1,
        }

    def watch(self, live: LiveRun) -> None:
        """Remembers which index served last."""
        live.state.on_list = self.note

    def note(self, made: TopK) -> None:
        self.version = made.index_version

    def serves(self, model: Artefact, index: Path) -> bool:
        """Whether these two serve; sends feedback, for without any nobody looks for a newer one."""
        self.send(burst(self.sent, 4))
        time.sleep(0.2)
        return (self.pool().scorer.model_version, self.version) == (model.version, index.name)

    def serves_on(self, kind: str, told: int) -> bool:
        """Whether so many refusals stand in `alerts` while the first model and index serve."""
        assert self.serves(self.artefacts[0], self.indexes[0])
        alerts = table(self.output, "alerts") if (self.output / "alerts").is_dir() else []
        return len(alerts) == told

    def pool(self) -> ScorerPool:
        """The scorers of the runs here, in this process."""
        return shared_pool(ServingConfig(str(self.models), threads=1, poll_seconds=_POLL_SECONDS))

    def take_up(self, model: Artefact, index: Path) -> None:
        """Publishes a model and an index, and waits until both serve."""
        publish_model(model.path, self.models)
        write_pointer(self.output / "index", index.name)
        await_that(lambda: self.serves(model, index), 60)

    def send(self, events: list[Event]) -> None:
        """Appends feedback whose words the small models know."""
        for number, event in enumerate(events):
            if "text" in event:
                event["text"] = f"{WORDS[(self.sent + number) % len(WORDS)]} {event['event_id']}"
        append(self.events / "log.jsonl", *events)
        self.sent += len(events)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two outputs of bounded runs, and two models."""
    folder = tmp_path_factory.mktemp("made")
    run(folder / "first", write_log(folder / "log.jsonl", shop_log()), model="none")
    more = write_log(folder / "more.jsonl", [*shop_log(), *burst(7, 60)])
    run(folder / "second", more, model="none")
    write_tiny(folder / "both")
    write_tiny(folder / "chinese", languages=["zh"], outputs=["embedding", "sentiment"])
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Shop:
    events, output, models = tmp_path / "events", tmp_path / "out", tmp_path / "models"
    events.mkdir()
    first = pinned(made / "first", output)
    other = read_pointer(made / "second" / "index")
    assert other is not None
    second = shutil.copytree(other, output / "index" / other.name)
    artefacts = [TextScorer.load(made / name, threads=1).artefact for name in ("both", "chinese")]
    publish_model(artefacts[0].path, models)
    shop = Shop(events, output, models, (artefacts[0], artefacts[1]), (first, second))
    shop.send(shop_log())
    return shop


def test_swaps_lose_no_list_and_end_with_the_oracles_on_the_final_versions(shop: Shop) -> None:
    first, final = (expected_lists(shop.indexes[1], [shop.events], K, loaded(a)) for a in shop.artefacts)
    assert first != final, "the models read the same: this test could not fail"
    listed: set[str] = set()
    with live_run(shop.events, shop.output, watch=shop.watch, **shop.settings):
        for swap in range(SWAPS):  # a model, an index, a model ...
            shop.take_up(shop.artefacts[(swap + 1) // 2 % 2], shop.indexes[swap // 2 % 2])
            before, listed = listed, users_of(shop.output)
            assert before <= listed, "a list is gone"
        shop.take_up(shop.artefacts[1], shop.indexes[1])
    assert shop.pool().swaps >= SWAPS // 2
    assert not shop.pool().refusals()
    oracle = expected_lists(shop.indexes[1], [shop.events], K, loaded(shop.artefacts[1]))
    assert current_lists(shop.output) == oracle
    assert_books_close(shop.output, lines_in(shop.events))
    latest = table(shop.output, "recommendations_latest")
    assert {row["index_version"] for row in latest} == {shop.indexes[1].name}
    assert {row["model_version"] for row in latest} <= {shop.artefacts[1].version, ""}
    assert_rows_name_what_made_them(shop.output, shop.events, shop.artefacts, shop.indexes)
    assert not (shop.output / "alerts").is_dir() or not table(shop.output, "alerts")


def loaded(artefact: Artefact) -> TextScorer:
    return TextScorer.load(artefact.path, threads=1)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another(path: Path) -> None:
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | {"version": "0" * len(manifest["version"])}), "utf-8")


def lose(path: Path) -> None:
    path.unlink()


MODEL_DAMAGES = [
    (MODEL_NAME, truncate),
    (MODEL_NAME, flip_a_bit),
    (MANIFEST_NAME, of_another),
    (TOKENIZER_NAME, lose),
]
INDEX_DAMAGES = [
    ("popularity.npy", truncate),
    ("popularity.npy", flip_a_bit),
    ("manifest.json", of_another),
    ("users.npy", lose),
]


@pytest.mark.parametrize(("kind", "damages"), [("model", MODEL_DAMAGES), ("index", INDEX_DAMAGES)])
def test_what_is_broken_is_refused_with_an_alert_and_what_is_whole_is_taken_up_after_it(
    shop: Shop, kind: str, damages: list[tuple[str, Callable[[Path], None]]]
) -> None:
    root = shop.models if kind == "model" else shop.output / "index"
    whole = shop.artefacts[1].path if kind == "model" else shop.indexes[1]
    with live_run(shop.events, shop.output, watch=shop.watch, **shop.settings):
        shop.take_up(shop.artefacts[0], shop.indexes[0])
        for number, (name, damage) in enumerate(damages):
            broken = shutil.copytree(whole, root / f"broken{number}")
            damage(broken / name)
            write_pointer(root, broken.name)
            await_that(partial(shop.serves_on, kind, number + 1), 60)
        shop.take_up(shop.artefacts[1], shop.indexes[1])
    assert current_lists(shop.output) == expected_lists(
        shop.indexes[1], [shop.events], K, loaded(shop.artefacts[1])
    )
    assert_rows_name_what_made_them(shop.output, shop.events, shop.artefacts, shop.indexes)
    assert_books_close(shop.output, lines_in(shop.events))
    alerts = table(shop.output, "alerts")
    assert [row["kind"] for row in alerts] == [f"{kind}_refused"] * len(damages)
    assert all(json.loads(row["evidence"])["why"] for row in alerts)


def test_an_index_and_a_model_that_are_copied_under_their_pointers_serve_once_they_are_whole(
    shop: Shop,
) -> None:
    with live_run(shop.events, shop.output, watch=shop.watch, **shop.settings):
        shop.take_up(shop.artefacts[0], shop.indexes[0])
        for root, whole, name in (
            (shop.output / "index", shop.indexes[1], "late"),
            (shop.models, shop.artefacts[1].path, shop.artefacts[1].version),
        ):
            write_pointer(root, name)
            (root / name).mkdir()
            for number, file in enumerate(sorted(whole.iterdir(), reverse=True)):
                if number % 5 == 1:  # a part is there; so is manifest.json, now and then
                    shop.serves(shop.artefacts[0], shop.indexes[0])
                shutil.copyfile(file, root / name / file.name)
        await_that(lambda: shop.serves(shop.artefacts[1], shop.indexes[1]), 60)
    assert current_lists(shop.output) == expected_lists(
        shop.indexes[1], [shop.events], K, loaded(shop.artefacts[1])
    )
    assert_rows_name_what_made_them(shop.output, shop.events, shop.artefacts, shop.indexes)
