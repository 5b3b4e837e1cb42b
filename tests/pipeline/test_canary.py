"""A canary in whole runs: what it read and how far it differs stand in `quality` and in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from models.encoder.artefact import Artefact
from pipeline.cli.live_view import print_live_report
from pipeline.cli.report import print_report
from tests.models.encoder.tiny import write_tiny
from tests.pipeline.live.feedback_log import START, Event, run, shop_log, table, write_log
from tests.pipeline.live.runs import await_that, has_read, live_run

TEXTS = 200


@pytest.fixture
def artefacts(tmp_path: Path) -> tuple[Artefact, Artefact]:
    """One that serves, and one that knows no language, so that its polarity is damped."""
    return write_tiny(tmp_path / "serving"), write_tiny(tmp_path / "canary", languages=[])


@pytest.fixture
def events() -> list[Event]:
    words = ("good , love it", "bad zipper")
    review: Event = {"kind": "review", "item_id": "item01", "event_time": START}
    reviews = [
        review | {"event_id": f"t{n}", "user_id": f"user{n % 14:02d}", "text": f"{words[n % 2]} {n % TEXTS}"}
        for n in range(2 * TEXTS)
    ]
    return [event for event in shop_log() if "text" not in event] + reviews


def of_canary(output: Path, artefacts: tuple[Artefact, Artefact]) -> dict[str, float]:
    """The figures of the one pair, by name."""
    prefix = f"canary.{artefacts[0].version}.{artefacts[1].version}."
    rows = [row for row in table(output, "quality") if row["check"].startswith("canary.")]
    assert all(row["check"].startswith(prefix) and row["window_start"] is None for row in rows)
    return {row["check"].removeprefix(prefix): row["value"] for row in rows}


def assert_sound(figures: dict[str, float]) -> None:
    assert 0.1 < figures["share"] < 0.5  # of texts chosen by their hash, a quarter was asked for
    assert figures["agreement"] == 1
    assert 0.01 < figures["mean_abs_polarity_delta"] < 1
    assert figures["failures"] == 0


def test_a_bounded_run_tells_what_its_canary_read(
    artefacts: tuple[Artefact, Artefact], events: list[Event], tmp_path: Path
) -> None:
    serving, canary = (str(artefact.path) for artefact in artefacts)
    log, output = write_log(tmp_path / "log.jsonl", events), tmp_path / "out"
    report = run(output, log, model=serving, canary_model=canary, canary_share=0.25, threads=1)
    assert_sound(of_canary(output, artefacts))
    console = Console(record=True, width=200)
    print_report(report, console)
    assert f"canary {artefacts[1].version} read " in console.export_text()


def test_a_run_without_a_canary_tells_nothing_of_one(
    artefacts: tuple[Artefact, Artefact], events: list[Event], tmp_path: Path
) -> None:
    report = run(tmp_path / "out", write_log(tmp_path / "log.jsonl", events), model=str(artefacts[0].path))
    assert of_canary(tmp_path / "out", artefacts) == {}
    console = Console(record=True, width=200)
    print_report(report, console)
    assert "canary " not in console.export_text()


def test_an_endless_run_tells_what_its_canary_read(
    artefacts: tuple[Artefact, Artefact], events: list[Event], tmp_path: Path
) -> None:
    serving, canary = (str(artefact.path) for artefact in artefacts)
    folder, output = tmp_path / "events", tmp_path / "out"
    folder.mkdir()
    write_log(folder / "log.jsonl", events)
    models: dict[str, Any] = {"model": serving, "canary_model": canary, "canary_share": 0.25, "threads": 1}
    with live_run(folder, output, reindex_every_seconds=60, **models) as (state, reports):
        await_that(lambda: has_read(state, len(events)))
    assert_sound(of_canary(output, artefacts))
    console = Console(record=True, width=200)
    print_live_report(reports[0], console)
    assert f"canary {artefacts[1].version} read " in console.export_text()
