"""What the feeder promises: nothing lost, nothing piled up in memory, however the sink behaves."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from models.errors import OutputError
from models.records import TopK
from pipeline.connectors.feeder import REFUSED, SinkFeeder
from pipeline.connectors.retrying import RefusedRowsError
from pipeline.tables.files import write_rows
from tests.pipeline.connectors.lists import made_list, table_of
from tests.pipeline.live.runs import await_that


class ListSink:
    """A sink in memory, which fails as often as it is told to and refuses lists of version 13."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.writes: list[tuple[str, int]] = []
        self.rows: list[tuple[str, int]] = []

    def open(self) -> None:
        self.is_open = True

    def write(self, table: str, rows: pa.Table) -> None:
        if self.failures:
            self.failures -= 1
            raise OutputError("the sink is away")
        if pc.any(pc.equal(rows["state_version"], 13)).as_py():
            raise RefusedRowsError("thirteen")
        self.writes.append((table, len(rows)))
        self.rows += zip(rows["user_id"].to_pylist(), rows["state_version"].to_pylist(), strict=True)

    def close(self) -> None:
        self.is_open = False


def leave(folder: Path, bundle: int, *lists: TopK) -> None:
    """A shard as an endless run leaves it: whole under its name at once."""
    folder.mkdir(exist_ok=True)
    partial = folder / f"{bundle}.partial"
    write_rows("recommendations", table_of(lists), partial)
    partial.rename(folder / f"{bundle:012d}-recommendations-ab{bundle}.parquet")


def test_every_shard_reaches_the_sink_in_order_and_leaves_the_folder(tmp_path: Path) -> None:
    sink = ListSink()
    for bundle in range(5):
        leave(tmp_path / "out", bundle, made_list("a", bundle + 1))
    with SinkFeeder("sink", tmp_path / "out", sink) as feeder:
        leave(tmp_path / "out", 5, made_list("a", 6))
        feeder.drain(60)
        assert feeder.counts.rows == 6
    assert sink.rows == [("a", version) for version in range(1, 7)]
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert not sink.is_open


def test_what_piled_up_goes_out_in_few_writes(tmp_path: Path) -> None:
    sink = ListSink()
    for bundle in range(40):
        leave(tmp_path / "out", bundle, made_list("a", bundle + 20))
    with SinkFeeder("sink", tmp_path / "out", sink) as feeder:
        feeder.drain(60)
    assert len(sink.writes) < 5


def test_a_sink_that_fails_is_asked_again_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ListSink(failures=2)
    leave(tmp_path / "out", 1, made_list("a", 1))
    with caplog.at_level(logging.WARNING), SinkFeeder("sink", tmp_path / "out", sink) as feeder:
        await_that(lambda: feeder.counts.failures)
        assert feeder.waiting() == 1
        feeder.drain(60)
        await_that(lambda: not feeder.counts.failures)
    assert sink.rows == [("a", 1)]
    told = [record.message for record in caplog.records]
    assert len(told) == 2, told
    assert "the sink is away" in told[0]
    assert "again" in told[1]


def test_what_a_sink_did_not_take_is_sent_by_the_next_run(tmp_path: Path) -> None:
    leave(tmp_path / "out", 1, made_list("a", 1))
    with (
        SinkFeeder("sink", tmp_path / "out", ListSink(failures=10**6)) as feeder,
        pytest.raises(OutputError, match=r"1 files within 0\.5 s .*the sink is away.*sent by the next run"),
    ):
        feeder.drain(0.5)
    later = ListSink()
    with SinkFeeder("sink", tmp_path / "out", later) as feeder:
        feeder.drain(60)
    assert later.rows == [("a", 1)]


def test_rows_that_a_sink_refuses_are_set_aside_and_hold_up_nobody(tmp_path: Path) -> None:
    sink = ListSink()
    leave(tmp_path / "out", 1, *[made_list(f"u{n}", n) for n in range(1, 30)])
    with SinkFeeder("sink", tmp_path / "out", sink) as feeder:
        feeder.drain(60)
        assert feeder.counts.refused == 1
    assert {version for _, version in sink.rows} == set(range(1, 30)) - {13}
    assert len(list((tmp_path / "out" / REFUSED).glob("*-recommendations.parquet"))) == 1


def test_a_file_that_nobody_of_ours_left_stops_the_feeding_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "000000000000-notes-x.parquet").write_bytes(b"x")
    with SinkFeeder("sink", tmp_path / "out", ListSink()) as feeder:
        await_that(lambda: feeder.counts.failures)
        assert "move it away" in feeder.counts.last_error


class LateSink(ListSink):
    """A sink that cannot be opened until its server is back."""

    is_back = False

    def open(self) -> None:
        if not self.is_back:
            raise OutputError("the server is down")
        super().open()


def test_a_sink_that_is_away_at_a_restart_is_fed_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = LateSink()
    leave(tmp_path / "out", 1, made_list("a", 1))
    with (
        caplog.at_level(logging.WARNING),
        SinkFeeder("sink", tmp_path / "out", sink, restarted=True) as feeder,
    ):
        await_that(lambda: feeder.counts.failures)
        assert feeder.waiting() == 1
        sink.is_back = True
        feeder.drain(60)
    assert sink.rows == [("a", 1)]
    assert "the server is down; what is meant for it waits in" in caplog.text
    assert "takes rows again" in caplog.text


@pytest.mark.parametrize("restarted", [False, True])
def test_a_sink_that_was_never_there_ends_every_start(restarted: bool, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(OutputError, match="the server is down"):
            SinkFeeder("sink", tmp_path / "out", LateSink(), restarted).__enter__()
