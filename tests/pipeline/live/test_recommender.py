"""The endless form on an engine that keeps time: TestStream, both clocks scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.testing import test_stream as scripted
from apache_beam.transforms.window import TimestampedValue

from models.lists import encode_list
from models.records import MICROS_PER_SECOND, FeedbackEvent
from pipeline.recommender import RecommenderConfig, build_live_recommender
from tests.pipeline.live.feedback_log import ITEMS, run, shop_log, write_log
from transforms.score_feedback import ScoreFeedback

START = 1_800_000_000


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a published index, made by a bounded run."""
    folder = tmp_path_factory.mktemp("published")
    run(folder, write_log(folder / "events.jsonl", shop_log()), model="none")
    return folder


def event(number: int, at: float, item: str = ITEMS[0], kind: str = "view") -> TimestampedValue:
    feedback = FeedbackEvent(f"e{number}", "ann", kind, int((START + at) * MICROS_PER_SECOND), item_id=item)
    return TimestampedValue(feedback, START + at)


def stream(*steps: Sequence[TimestampedValue] | float) -> scripted.TestStream:
    """Elements that arrive together, and event times that the watermark then reaches."""
    script = scripted.TestStream().advance_watermark_to(START)
    for step in steps:
        if isinstance(step, float):
            script = script.advance_processing_time(5).advance_watermark_to(START + step)
        else:
            script = script.add_elements(list(step))
    return script.advance_processing_time(5).advance_watermark_to_infinity()


def play(
    script: scripted.TestStream, published: Path, folder: Path
) -> tuple[list[dict[str, object]], dict[str, int]]:
    """The lists that came out, in order of their versions, and the counts of the books."""
    options = PipelineOptions(["--runner=BundleBasedDirectRunner"])
    options.view_as(StandardOptions).streaming = True
    with beam.Pipeline(options=options) as pipeline:
        tables = build_live_recommender(
            pipeline | script, ScoreFeedback(None), RecommenderConfig(str(published), k=3), 1.0
        )
        tables["recommendations"] | "KeepLists" >> beam.Map(_keep_list, str(folder))
        counted = (tables["accounting"], tables["suppressed"]) | "AllCounts" >> beam.Flatten()
        counted | "KeepCounts" >> beam.Map(_keep_count, str(folder))
    lists = sorted(_kept(folder, "list"), key=lambda row: str(row["version"]))
    counts: dict[str, int] = {}
    for row in _kept(folder, "count"):
        counts[str(row["code"])] = counts.get(str(row["code"]), 0) + int(str(row["count"]))
    return lists, counts


def _keep_list(made, folder):  # type: ignore[no-untyped-def]
    told = {"version": made.state_version, "items": [item.item_id for item in made.items]}
    told |= {"triggers": made.trigger_event_ids, "window_end": made.window_end}
    (Path(folder) / f"list-{hash(encode_list(made))}.json").write_text(json.dumps(told))


def _keep_count(row, folder):  # type: ignore[no-untyped-def]
    path = Path(folder) / f"count-{len(list(Path(folder).iterdir()))}.json"
    path.write_text(json.dumps({"code": row[0], "count": row[1]}))


def _kept(folder: Path, kind: str) -> Iterator[dict[str, object]]:
    for path in folder.glob(f"{kind}-*.json"):
        yield json.loads(path.read_text())


def test_a_burst_of_fifty_events_makes_one_list(published: Path, tmp_path: Path) -> None:
    burst = [event(n, n * 0.01, ITEMS[n % 3]) for n in range(50)]
    lists, counts = play(stream(burst, 30.0), published, tmp_path)
    assert len(lists) == 1
    assert lists[0]["window_end"] == (START + 1) * MICROS_PER_SECOND
    assert counts == {"accepted.without_text": 50}


def test_a_list_that_shows_nothing_new_waits_for_the_drain(published: Path, tmp_path: Path) -> None:
    lists, counts = play(stream([event(1, 0.0)], 30.0, [event(2, 31.0)], 60.0), published, tmp_path)
    assert counts["note.suppressed_unchanged"] == 1
    assert [row["triggers"] for row in lists] == [["e1"], ["e2"]]
    assert lists[0]["items"] == lists[1]["items"]


def test_feedback_that_is_hours_late_still_refreshes_the_list(published: Path, tmp_path: Path) -> None:
    late = event(2, -7_200.0, ITEMS[5], "purchase")
    lists, counts = play(stream([event(1, 0.0)], 3_600.0, [late], 3_700.0), published, tmp_path)
    assert counts["accepted.without_text"] == 2
    assert lists[-1]["triggers"] == ["e2"]
    assert lists[-1]["items"] != lists[0]["items"]


def test_redelivered_feedback_refreshes_nothing(published: Path, tmp_path: Path) -> None:
    lists, counts = play(stream([event(1, 0.0)], 30.0, [event(1, 0.0)], 60.0), published, tmp_path)
    assert len(lists) == 1
    assert counts == {"accepted.without_text": 1, "duplicate": 1}
