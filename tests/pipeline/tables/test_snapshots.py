"""Endless runs: shards become tables every few seconds, and a kill costs nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import OutputError, UsageError
from models.latest import latest_from_lists
from models.records import TopK
from models.table_columns import table_from_records
from pipeline.tables import output_folder, snapshots
from pipeline.tables.files import TableLimits, read_rows, sort_rows
from pipeline.tables.output_folder import stream_path
from pipeline.tables.shards import store_shard
from pipeline.tables.sinks import prepare_output
from pipeline.tables.snapshots import Snapshots, WriteStream, take_snapshot
from tests.models.table_records import query, scored, top_k
from tests.models.test_latest import many_lists
from tests.pipeline.tables.runs import RECORDS, publish_records, visible_files


def leave_shard(output: Path, name: str, *records: object, run_id: str = "run-1") -> None:
    rows = sort_rows(name, table_from_records(name, list(records), run_id))
    store_shard(stream_path(output, run_id) / name, name, rows)


def current(output: Path) -> list[tuple[object, ...]]:
    files = f"'{output}/recommendations_latest/*.parquet'"
    return query(f"SELECT user_id, rank, item_id, state_version FROM {files} ORDER BY ALL")


def count(output: Path, table: str) -> int:
    ((rows,),) = query(f"SELECT count(*) FROM '{output}/{table}/*.parquet'")
    assert isinstance(rows, int)
    return rows


def test_a_snapshot_folds_the_shards_in_and_deletes_them(tmp_path: Path) -> None:
    with prepare_output(str(tmp_path), "run-1"), Snapshots(str(tmp_path), "run-1", "replace", 60):
        assert current(tmp_path) == []
        leave_shard(tmp_path, "recommendations", top_k("ann", 2, ["boots"]), top_k("bob", 2, ["coat"]))
        leave_shard(tmp_path, "scored_feedback", scored("e1"))
        take_snapshot(tmp_path, "run-1")
        assert current(tmp_path) == [("ann", 1, "boots", 2), ("bob", 1, "coat", 2)]
        assert list(stream_path(tmp_path, "run-1").glob("*/*")) == []
        leave_shard(tmp_path, "recommendations", top_k("ann", 1, ["stale"]), top_k("bob", 3, tombstone=True))
    assert current(tmp_path) == [("ann", 1, "boots", 2)]
    assert (count(tmp_path, "recommendations"), count(tmp_path, "scored_feedback")) == (4, 1)
    assert not [path for path in visible_files(tmp_path) if path.startswith((".stream", ".staging"))]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=many_lists, cuts=st.lists(st.booleans(), min_size=12, max_size=12))
def test_any_split_into_snapshots_gives_the_lists_of_one_run(
    found: list[TopK], cuts: list[bool], tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("split")
    with prepare_output(str(output), "run-1"), Snapshots(str(output), "run-1", "replace", 60):
        for top, cut in zip(found, cuts, strict=False):
            leave_shard(output, "recommendations", top)
            if cut:
                take_snapshot(output, "run-1")
    latest = read_rows("recommendations_latest", [output / "recommendations_latest" / "part-00000.parquet"])
    assert latest.equals(latest_from_lists(table_from_records("recommendations", found)))


def test_a_bundle_that_runs_again_leaves_one_row_a_list_version(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-0")
    leave_shard(tmp_path, "recommendations", top_k("dan", 7))
    leave_shard(tmp_path, "recommendations", top_k("dan", 7))
    take_snapshot(tmp_path, "run-1")
    assert count(tmp_path, "recommendations") == 4


def test_the_thread_refreshes_the_tables_while_the_job_runs(tmp_path: Path) -> None:
    with prepare_output(str(tmp_path), "run-1"), Snapshots(str(tmp_path), "run-1", "replace", 0.05):
        leave_shard(tmp_path, "recommendations", top_k("ann", 2, ["boots"]))
        deadline = time.monotonic() + 20
        while not current(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert current(tmp_path) == [("ann", 1, "boots", 2)]


def test_an_endless_run_that_appends_begins_with_the_tables_as_they_are(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-0")
    before = current(tmp_path)
    with prepare_output(str(tmp_path), "run-1", "append"), Snapshots(str(tmp_path), "run-1", "append", 60):
        assert current(tmp_path) == before
        leave_shard(tmp_path, "recommendations", top_k("ann", 9, ["coat"]))
    assert current(tmp_path) == [("ann", 1, "coat", 9), ("bob", 1, "coat", 5)]


def test_shards_of_a_killed_run_are_folded_in_at_the_next_start(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-0")
    leave_shard(tmp_path, "recommendations", top_k("dan", 7, ["boots"]))
    with prepare_output(str(tmp_path), "run-2", "append"):
        assert ("dan", 1, "boots", 7) in current(tmp_path)
    assert not [path for path in visible_files(tmp_path) if path.startswith((".stream", ".staging"))]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["delete", "file", "folder"])
def test_a_kill_during_a_snapshot_neither_loses_nor_doubles_a_row(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_records(tmp_path, RECORDS, "run-0")
    leave_shard(tmp_path, "recommendations", top_k("dan", 7, ["boots"]))
    leave_shard(tmp_path, "scored_feedback", scored("e9", "dan"))
    real_step = output_folder._take_step

    def killed_at(staging: Path, taken: output_folder.Step) -> None:
        if taken.kind == step:
            raise Killed
        real_step(staging, taken)

    monkeypatch.setattr(output_folder, "_take_step", killed_at)
    monkeypatch.setattr(snapshots, "settle", lambda staging: None)
    with pytest.raises(Killed):
        take_snapshot(tmp_path, "run-1")
    monkeypatch.undo()
    with prepare_output(str(tmp_path), "run-2", "append"):
        assert count(tmp_path, "recommendations") == 4
        assert count(tmp_path, "scored_feedback") == 7
        assert ("dan", 1, "boots", 7) in current(tmp_path)


def test_a_snapshot_that_cannot_be_written_keeps_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_records(tmp_path, RECORDS, "run-0")
    leave_shard(tmp_path, "recommendations", top_k("dan", 7, ["boots"]))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "publish_shards", full)
        with pytest.raises(OutputError, match="no space left"):
            take_snapshot(tmp_path, "run-1")
    take_snapshot(tmp_path, "run-1")
    assert ("dan", 1, "boots", 7) in current(tmp_path)


def test_of_two_snapshots_at_once_one_does_the_work(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-0")
    for number in range(20):
        leave_shard(tmp_path, "recommendations", top_k(f"user{number}", 1))
    threads = [threading.Thread(target=take_snapshot, args=(tmp_path, "run-1")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(tmp_path, "recommendations") == 23


def test_many_snapshots_leave_few_files(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-0")
    limits = TableLimits(small_files=4)
    for number in range(1, 13):
        leave_shard(tmp_path, "recommendations", top_k("ann", number + 10))
        take_snapshot(tmp_path, "run-1", limits)
    assert len(list((tmp_path / "recommendations").iterdir())) <= 6
    assert count(tmp_path, "recommendations") == 15
    assert {version for *_, version in current(tmp_path) if _[0] == "ann"} == {22}


def test_write_stream_leaves_every_record_of_a_real_job(tmp_path: Path) -> None:
    run = Snapshots(str(tmp_path), "run-1", "replace", 0.2)
    with (
        prepare_output(str(tmp_path), "run-1"),
        run,
        beam.Pipeline("FnApiRunner", options=PipelineOptions([])) as p,
    ):
        tables = {name: p | name >> beam.Create(list(rows)) for name, rows in RECORDS.items()}
        _ = tables | WriteStream(str(tmp_path), "run-1")
    for name, rows in RECORDS.items():
        assert count(tmp_path, name) == len(rows)
    assert current(tmp_path) == [("ann", 1, "apron", 4), ("ann", 2, "boots", 4), ("bob", 1, "coat", 5)]


def test_an_endless_run_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UsageError, match="local folder"):
        WriteStream("gs://bucket/out", "run-1")
    with pytest.raises(UsageError, match="above 0, got 0"):
        Snapshots("out", "run-1", "replace", 0)
