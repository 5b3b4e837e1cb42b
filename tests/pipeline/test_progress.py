"""What a display says is what was done: shares end at 1, counts are the job's, a line fits its terminal."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.cli.console import clock, progress_line
from pipeline.inputs.reading import read_feedback
from pipeline.progress import JOB_STAGES, PROGRESS, RANKING, READING, READING_ITEMS, Progress
from tests.pipeline.live.feedback_log import run, shop_log, write_log


def zipped(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("events.jsonl", content)


def plain(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def gzipped(content: bytes, path: Path) -> None:
    path.write_bytes(gzip.compress(content))


def bzipped(content: bytes, path: Path) -> None:
    path.write_bytes(bz2.compress(content))


LINE = b'{"user_id": "u1", "kind": "like", "item_id": "i1", "event_time": 1700000000}\n'


@pytest.mark.parametrize("store", [plain, gzipped, bzipped, zipped])
def test_all_of_a_file_is_told_as_it_is_read(store: Callable[[bytes, Path], None], tmp_path: Path) -> None:
    store(LINE * 5_000, tmp_path / "events")
    PROGRESS.begin()
    shares = [PROGRESS.share or 0.0 for _ in read_feedback([str(tmp_path / "events")])]
    assert PROGRESS.stage == READING
    assert PROGRESS.counts["records"] == 5_000
    assert shares == sorted(shares)
    assert PROGRESS.share == pytest.approx(1.0)


def test_a_job_goes_through_its_stages_and_counts_what_its_report_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[tuple[str, float | None]] = []

    def note(told: Progress, stage: str, total: float = 0.0) -> None:
        if stage != told.stage:
            passed.append((told.stage, told.share))
        enter(told, stage, total)

    enter = Progress.enter
    monkeypatch.setattr(Progress, "enter", note)
    report = run(tmp_path / "out", write_log(tmp_path / "events.jsonl", shop_log()))
    expected = [stage for stage in JOB_STAGES if stage != READING_ITEMS]
    assert [stage for stage, _ in passed] == ["", *expected[:-1]]
    assert PROGRESS.stage == expected[-1]
    shares = dict(passed)
    assert shares[expected[0]] == shares[RANKING] == 1.0
    assert PROGRESS.counts["records"] == report.accounting.input
    assert PROGRESS.counts["lists"] == PROGRESS.counts["users"] == report.rows["recommendations"]
    assert PROGRESS.texts is not None
    assert PROGRESS.texts() >= report.accounting.counts["accepted.scored"]


def shown(told: Progress, width: int) -> str:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(progress_line(told, "starting", 75.0, width))
    return captured.get()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_display_is_one_line_of_any_terminal(width: int) -> None:
    told = Progress(stages=JOB_STAGES)
    told.enter(JOB_STAGES[0], 1_000)
    told.advance(410)
    told._entered -= 41
    told.counts.update(records=1_234_567, users=89_000)
    told.texts = lambda: 765_432
    line = shown(told, width)
    assert line.count("\n") == 1
    assert "1/6 reading and scoring  41%" in line
    if width >= 80:
        assert "1:15, 0:59 left of 1/6, 1,234,567 records" in line
    if width >= 120:
        assert "765,432 texts, 89,000 users" in line


def test_a_display_without_counts_says_what_begins_and_since_when() -> None:
    assert shown(Progress(), 80).split() == ["starting", "1:15"]


def test_no_time_left_is_told_before_it_can_be_known() -> None:
    told = Progress()
    told.enter(READING, 100)
    told.advance(1)
    assert told.seconds_left() is None
    told.enter(READING_ITEMS)
    told.advance(50)
    assert (told.share, told.seconds_left()) == (None, None)


def test_times_are_written_as_clocks_write_them() -> None:
    assert [clock(7.4), clock(75), clock(3_753)] == ["0:07", "1:15", "1:02:33"]
