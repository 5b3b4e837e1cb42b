"""What a reader sees while runs come, go and die, and who may write."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.errors import OutputError, UsageError
from models.tables import SCHEMAS, TABLES, VERSION_KEY
from pipeline.tables import output_folder
from pipeline.tables.files import TableLimits, publish_shards
from pipeline.tables.output_folder import new_run_id, published_receipts, staging_path
from pipeline.tables.sinks import prepare_output
from tests.models.table_records import query, top_k
from tests.pipeline.tables.runs import RECORDS, publish_records, visible_files, write_all_shards

SPLIT = TableLimits(range_bytes=5_000, file_bytes=1, latest_rows=40)


def lists_of(version: int, users: int = 60) -> dict[str, list[object]]:
    return {"recommendations": [top_k(f"user{n:03d}", version) for n in range(users)]}


def contents(output: Path) -> dict[str, bytes]:
    return {path: (output / path).read_bytes() for path in visible_files(output)}


@contextmanager
def polling(look: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Calls `look` again and again in a thread; what it raises is collected."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set() and not errors:
            try:
                look()
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    yield errors
    stop.set()
    thread.join()


@pytest.mark.parametrize("table", ["recommendations_latest", "recommendations"])
def test_a_reader_never_sees_half_a_run_nor_an_empty_folder(tmp_path: Path, table: str) -> None:
    publish_records(tmp_path, lists_of(1), "run-1")
    seen = set()

    def look() -> None:
        files = f"'{tmp_path}/{table}/*.parquet'"
        ((rows, oldest, newest),) = query(
            f"SELECT count(*), min(state_version), max(state_version) FROM {files}"
        )
        assert oldest == newest
        assert rows == (60 if table == "recommendations" else 120)
        seen.add(newest)

    with polling(look) as errors:
        for version in range(2, 14):
            publish_records(tmp_path, lists_of(version), f"run-{version}")
    assert errors == []
    assert len(seen) > 2


@pytest.mark.parametrize("if_exists", ["replace", "append"])
def test_folders_of_several_files_are_swapped_whole(tmp_path: Path, if_exists: str) -> None:
    """A listing holds the files of complete runs only; names carry the run, so none can be mistaken."""
    publish_records(tmp_path, lists_of(1), "run-1", limits=SPLIT)
    listings = set()

    def look() -> None:
        listings.add(tuple(sorted(os.listdir(tmp_path / "recommendations"))))

    with polling(look) as errors:
        for version in range(2, 9):
            publish_records(tmp_path, lists_of(version), f"run-{version}", if_exists, SPLIT)
    assert errors == []
    assert len(listings) > 2
    counts: dict[str, set[int]] = {}
    for listing in listings:
        runs = [name.split("-")[2] for name in listing]
        assert len(set(runs)) == 1 or if_exists == "append"
        for run in runs:
            counts.setdefault(run, set()).add(runs.count(run))
    assert all(len(found) == 1 and min(found) > 1 for found in counts.values()), counts


def test_no_other_file_ever_matches_the_tables_pattern(tmp_path: Path) -> None:
    publish_records(tmp_path, lists_of(1), "run-1")

    def look() -> None:
        for table in TABLES:
            assert [path.name for path in (tmp_path / table).iterdir()] == ["part-00000.parquet"]

    with polling(look) as errors:
        for version in range(2, 10):
            publish_records(tmp_path, lists_of(version), f"run-{version}")
    assert errors == []


class Killed(BaseException):
    """Stands for the end of the process: nothing that catches errors sees it."""


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("limits", [TableLimits(), SPLIT])
@pytest.mark.parametrize("steps", [0, 4, 8])
def test_a_run_killed_while_publishing_is_completed_at_the_next_start(
    tmp_path: Path, steps: int, limits: TableLimits, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_records(tmp_path, lists_of(1), "run-1")
    real_step, real_exchange = output_folder._take_step, output_folder.exchange
    taken = 0

    def step_until_killed(staging: Path, step: output_folder.Step) -> None:
        nonlocal taken
        if taken == steps:
            raise Killed
        taken += 1
        real_step(staging, step)

    monkeypatch.setattr(output_folder, "_take_step", step_until_killed)
    monkeypatch.setattr(output_folder, "exchange", real_exchange if exchange else lambda one, other: False)
    staging_path(tmp_path, "run-2").mkdir()
    shards = write_all_shards(tmp_path, lists_of(2), "run-2")
    with pytest.raises(Killed):
        publish_shards(tmp_path, "run-2", "replace", shards, limits)
    assert staging_path(tmp_path, "run-2").exists()
    monkeypatch.setattr(output_folder, "_take_step", real_step)
    with prepare_output(str(tmp_path), "run-3"):
        found = query(f"SELECT DISTINCT state_version FROM '{tmp_path}/recommendations*/*.parquet'")
    assert found == [(2,)]
    assert not [path for path in visible_files(tmp_path) if path.startswith(".staging")]
    published = published_receipts(tmp_path)
    assert published is not None
    assert published.run_id == "run-2"


def test_a_kill_between_the_two_renames_of_a_disk_without_exchange_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_records(tmp_path, lists_of(1), "run-1", limits=SPLIT)
    monkeypatch.setattr(output_folder, "exchange", lambda one, other: False)
    real_rename = os.rename

    def rename_until_killed(source: Path, target: Path) -> None:
        if "tables" in source.parts:
            raise Killed
        real_rename(source, target)

    shards = write_all_shards(tmp_path, lists_of(2), "run-2")
    monkeypatch.setattr(os, "rename", rename_until_killed)
    with pytest.raises(Killed):
        publish_shards(tmp_path, "run-2", "replace", shards, SPLIT)
    monkeypatch.setattr(os, "rename", real_rename)
    prepare_output(str(tmp_path), "run-3").__exit__(None, None, None)
    assert query(f"SELECT DISTINCT state_version FROM '{tmp_path}/recommendations*/*.parquet'") == [(2,)]


def test_a_run_killed_before_publishing_leaves_the_old_tables_and_is_cleaned(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-1")
    before = contents(tmp_path)
    write_all_shards(tmp_path, lists_of(2), "run-2")
    assert contents(tmp_path) != before
    with prepare_output(str(tmp_path), "run-3"):
        pass
    assert contents(tmp_path) == before


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    publish_records(tmp_path, lists_of(1), "run-1")
    with prepare_output(str(tmp_path), "run-2", "append"):
        shards = write_all_shards(tmp_path, lists_of(2), "run-2")
        receipts = publish_shards(tmp_path, "run-2", "append", shards, TableLimits())
        before = contents(tmp_path)
        assert publish_shards(tmp_path, "run-2", "append", shards, TableLimits()) == receipts
    assert contents(tmp_path) == before


def test_a_failed_run_frees_what_it_had_staged(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), prepare_output(str(tmp_path), "run-1"):
        write_all_shards(tmp_path, lists_of(1), "run-1")
        raise RuntimeError("the job failed")
    assert visible_files(tmp_path) == []


def test_two_runs_may_not_write_into_one_folder(tmp_path: Path) -> None:
    with prepare_output(str(tmp_path), "run-1"):
        refused = pytest.raises(OutputError, match="another run is writing")
        with refused:
            prepare_output(str(tmp_path), "run-2")
    with prepare_output(str(tmp_path), "run-2"):
        pass


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for output in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError, match=r"expected a folder, but .*/file is a file"):
            prepare_output(str(output), "run-1")


def test_an_unwritable_place_is_a_clear_error() -> None:
    with pytest.raises(OutputError, match=r"cannot write the tables in /proc/out: .*choose another --output"):
        prepare_output("/proc/out", "run-1")


def test_a_file_in_the_place_of_a_table_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "trends").write_text("x")
    with pytest.raises(OutputError, match="expected a folder of the table trends"):
        prepare_output(str(tmp_path), "run-1")


@pytest.mark.parametrize("name", ["mine.parquet", "part-00000.parquet"])
def test_files_that_livelist_did_not_write_are_never_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / name).write_bytes(b"not parquet at all")
    with pytest.raises(OutputError, match="livelist did not write"):
        prepare_output(str(tmp_path), "run-1")
    pq.write_table(SCHEMAS["trends"].empty_table(), tmp_path / "alerts" / name)
    with pytest.raises(OutputError, match="livelist did not write"):
        prepare_output(str(tmp_path), "run-1")


def test_a_folder_with_tables_is_refused_when_so_said(tmp_path: Path) -> None:
    with prepare_output(str(tmp_path), "run-1", "error"):
        pass
    publish_records(tmp_path, RECORDS, "run-1")
    with pytest.raises(
        OutputError, match=r"already holds the tables dead_letters, .*--if_exists replace or append"
    ):
        prepare_output(str(tmp_path), "run-2", "error")


def test_tables_of_another_schema_version_may_be_replaced_and_not_appended_to(tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    schema = SCHEMAS["alerts"].with_metadata({**SCHEMAS["alerts"].metadata, VERSION_KEY: b"0"})
    pq.write_table(schema.empty_table(), tmp_path / "alerts" / "part-00000.parquet")
    with pytest.raises(OutputError, match="schema version 0, this livelist writes 1"):
        prepare_output(str(tmp_path), "run-1", "append")
    publish_records(tmp_path, RECORDS, "run-1", "replace")


def test_a_wrong_choice_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="if_exists: expected one of replace, append, error, got 'merge'"):
        prepare_output(str(tmp_path), "run-1", "merge")


def test_run_ids_sort_by_time_and_never_repeat() -> None:
    first = new_run_id()
    time.sleep(1.1)
    second = new_run_id()
    assert first[:16] < second[:16]
    assert len({new_run_id() for _ in range(100)}) == 100


def test_the_receipt_tells_what_was_published(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-1")
    receipt = json.loads((tmp_path / ".published.json").read_text())
    assert receipt["run_id"] == "run-1"
    assert {one["table"]: one["rows"] for one in receipt["tables"]} == {
        "dead_letters": 1, "quarantine": 1, "scored_feedback": 6, "trends": 0, "alerts": 0, "quality": 8,
        "recommendations": 3, "recommendations_latest": 3,
    }  # fmt: skip
