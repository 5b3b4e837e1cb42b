"""WriteTables through a real engine, read back with real readers."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import pandas
import pyarrow.parquet as pq
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from models.errors import UsageError
from models.records import TopK
from models.tables import TABLES
from pipeline.tables.files import TableLimits
from pipeline.tables.sinks import WriteTables, prepare_output
from tests.models.table_records import ACCOUNTING, query, scored, top_k
from tests.pipeline.tables.runs import RECORDS, publish_records, run_pipeline, visible_files, write_tables

ONE_FILE_EACH = sorted(
    [".published.json", "README.md", "queries.sql", *(f"{t}/part-00000.parquet" for t in TABLES)]
)


def current(output: Path) -> list[tuple[object, ...]]:
    files = f"'{output}/recommendations_latest/*.parquet'"
    return query(f"SELECT user_id, rank, item_id, state_version FROM {files} ORDER BY ALL")


def test_a_run_leaves_one_file_a_table_and_nothing_else(tmp_path: Path) -> None:
    write_tables(tmp_path / "out", RECORDS)
    assert visible_files(tmp_path / "out") == ONE_FILE_EACH


def test_the_tables_hold_the_records_in_canonical_order(tmp_path: Path) -> None:
    write_tables(tmp_path / "out", RECORDS)
    history = pandas.read_parquet(tmp_path / "out" / "recommendations")
    assert list(history["user_id"]) == ["ann", "bob", "cat"]
    assert list(history["tombstone"]) == [False, False, True]
    feedback = pandas.read_parquet(tmp_path / "out" / "scored_feedback")
    assert list(zip(feedback["user_id"], feedback["event_id"], strict=True)) == [
        (user, f"e{n}") for user in ("ann", "bob") for n in (1, 2, 3)
    ]
    assert current(tmp_path / "out") == [
        ("ann", 1, "apron", 4),
        ("ann", 2, "boots", 4),
        ("bob", 1, "coat", 5),
    ]


def test_a_table_without_records_has_its_columns(tmp_path: Path) -> None:
    write_tables(tmp_path / "out", {"quality": []})
    for name in TABLES:
        assert query(f"SELECT * FROM '{tmp_path}/out/{name}/*.parquet'") == []


@pytest.mark.parametrize("bundles", [1, 7])
def test_files_are_byte_equal_however_the_records_arrive(tmp_path: Path, bundles: int) -> None:
    write_tables(tmp_path / "one", RECORDS)
    shuffled = {name: random.Random(bundles).sample(list(rows), len(rows)) for name, rows in RECORDS.items()}
    limits = TableLimits(shard_rows=1 if bundles > 1 else 1_000)
    write_tables(tmp_path / "two", shuffled, limits=limits)
    for name in TABLES:
        one, two = (tmp_path / folder / name / "part-00000.parquet" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name


def test_a_bundle_that_runs_again_doubles_nothing(tmp_path: Path) -> None:
    options = ["--direct_runner_bundle_repeat=2"]
    write_tables(tmp_path / "again", RECORDS, options=options)
    write_tables(tmp_path / "once", RECORDS)
    for name in TABLES:
        again, once = (pq.read_table(tmp_path / folder / name) for folder in ("again", "once"))
        assert again.equals(once), name


def test_hindsight_lists_stand_in_the_history_only(tmp_path: Path) -> None:
    lists = [top_k("ann", 5, ["coat"]), top_k("ann", 9, ["boots"], hindsight=True)]
    write_tables(tmp_path / "out", {"recommendations": lists})
    assert current(tmp_path / "out") == [("ann", 1, "coat", 5)]
    assert query(f"SELECT count(*) FROM '{tmp_path}/out/recommendations/*.parquet'") == [(2,)]


def test_records_in_windows_are_published_once(tmp_path: Path) -> None:
    rows = [scored(f"e{n}") for n in range(6)]
    with prepare_output(str(tmp_path), "run-1"), beam.Pipeline("FnApiRunner") as pipeline:
        windowed = (
            pipeline
            | beam.Create([TimestampedValue(row, n * 10) for n, row in enumerate(rows)])
            | beam.WindowInto(FixedWindows(20))
        )
        _ = {"scored_feedback": windowed} | WriteTables(str(tmp_path), "run-1")
    assert query(f"SELECT count(*) FROM '{tmp_path}/scored_feedback/*.parquet'") == [(6,)]


def test_replace_leaves_nothing_of_the_run_before(tmp_path: Path) -> None:
    publish_records(tmp_path / "out", RECORDS, "run-1")
    write_tables(tmp_path / "out", {"recommendations": [top_k("dan", 1, ["coat"])]}, run_id="run-2")
    assert current(tmp_path / "out") == [("dan", 1, "coat", 1)]
    assert visible_files(tmp_path / "out") == ONE_FILE_EACH
    assert query(f"SELECT count(*) FROM '{tmp_path}/out/scored_feedback/*.parquet'") == [(0,)]


def test_append_keeps_history_and_lets_the_newest_list_stand(tmp_path: Path) -> None:
    write_tables(tmp_path / "out", RECORDS)
    later: dict[str, Sequence[object]] = {
        "recommendations": [
            top_k("ann", 9, ["dress"]), top_k("bob", 2, ["stale"]),
            top_k("cat", 3, ["erased"]), top_k("dan", 1, ["new"]),
        ],
        "quality": ACCOUNTING,
    }  # fmt: skip
    write_tables(tmp_path / "out", later, "append", "run-2")
    assert current(tmp_path / "out") == [("ann", 1, "dress", 9), ("bob", 1, "coat", 5), ("dan", 1, "new", 1)]
    assert query(f"SELECT count(*) FROM '{tmp_path}/out/recommendations/*.parquet'") == [(7,)]
    assert query(f"SELECT DISTINCT run_id FROM '{tmp_path}/out/quality/*.parquet' ORDER BY 1") == [
        ("run-1",),
        ("run-2",),
    ]
    assert [path.name for path in (tmp_path / "out" / "recommendations_latest").iterdir()] == [
        "part-00000.parquet"
    ]


def test_a_tombstone_of_a_later_run_removes_the_list(tmp_path: Path) -> None:
    publish_records(tmp_path / "out", RECORDS, "run-1")
    publish_records(
        tmp_path / "out", {"recommendations": [top_k("ann", 9, tombstone=True)]}, "run-2", "append"
    )
    assert current(tmp_path / "out") == [("bob", 1, "coat", 5)]


def test_appending_to_an_empty_folder_is_a_first_run(tmp_path: Path) -> None:
    publish_records(tmp_path / "out", RECORDS, "run-1", "append")
    assert len(current(tmp_path / "out")) == 3


def many_lists(users: int, version: int = 1) -> list[TopK]:
    return [top_k(f"user{n:04d}", version) for n in range(users)]


SMALL = TableLimits(shard_rows=500, range_bytes=80_000, file_bytes=3_000, latest_rows=1_000)


def test_a_table_beyond_the_limits_is_sorted_in_parts_and_split_into_files(tmp_path: Path) -> None:
    lists = random.Random(1).sample(many_lists(1_800), 1_800)
    publish_records(tmp_path / "out", {"recommendations": lists}, "run-1", limits=SMALL, shards=3)
    latest = sorted((tmp_path / "out" / "recommendations_latest").iterdir())
    assert [path.name for path in latest] == [f"part-run-1-{n:05d}.parquet" for n in range(4)]
    assert len(list((tmp_path / "out" / "recommendations").iterdir())) > 1
    rows = pq.read_table(tmp_path / "out" / "recommendations_latest").to_pydict()
    keys = list(zip(rows["user_id"], rows["rank"], strict=True))
    assert keys == [(top.user_id, item.rank) for top in many_lists(1_800) for item in top.items]


def test_files_split_or_not_hold_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    records = {"recommendations": many_lists(1_800)}
    publish_records(tmp_path / "one", records, "run-1")
    publish_records(tmp_path / "many", records, "run-1", limits=SMALL, shards=3)
    for name in ("recommendations", "recommendations_latest"):
        one, many = (pq.read_table(tmp_path / folder / name) for folder in ("one", "many"))
        assert one.equals(many)


def test_folders_swap_from_one_file_to_many_and_back(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for number, limits in enumerate((TableLimits(), SMALL, SMALL, TableLimits()), start=1):
        publish_records(
            output, {"recommendations": many_lists(1_600, number)}, f"run-{number}", limits=limits
        )
        assert query(
            f"SELECT count(*), min(state_version) FROM '{output}/recommendations_latest/*.parquet'"
        ) == [(3_200, number)]
    assert visible_files(output) == ONE_FILE_EACH


def test_appending_beyond_the_limits_merges_the_current_lists(tmp_path: Path) -> None:
    output = tmp_path / "out"
    publish_records(output, {"recommendations": many_lists(2_000, 5)}, "run-1", limits=SMALL)
    later = [*many_lists(1_000, 9), *(top_k(f"user{n:04d}", 3, ["stale"]) for n in range(1_500, 2_000))]
    publish_records(output, {"recommendations": later}, "run-2", "append", SMALL, 2)
    files = f"'{output}/recommendations_latest/*.parquet'"
    counts = query(f"SELECT state_version, count(*) FROM {files} GROUP BY 1 ORDER BY 1")
    assert counts == [(5, 2_000), (9, 2_000)]


def test_an_unknown_table_is_refused_while_building(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got recommendations_latest"):
        run_pipeline(str(tmp_path), {"recommendations_latest": []})


@pytest.mark.parametrize(("run_id", "if_exists"), [("../x", "replace"), ("run-1", "merge"), ("", "replace")])
def test_bad_arguments_are_refused_while_building(run_id: str, if_exists: str) -> None:
    with pytest.raises(UsageError):
        WriteTables("out", run_id, if_exists)


FULL_DISK = """
import resource, secrets, signal, sys
from pathlib import Path
from tests.pipeline.tables.runs import write_tables
from tests.models.table_records import top_k
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))
try:
    lists = [top_k("ann", n, [secrets.token_hex(99)]) for n in range(1_500)]
    write_tables(Path(sys.argv[1]), {"recommendations": lists}, run_id="run-2")
except Exception as error:
    print(error)
    sys.exit(7)
"""


def test_a_disk_that_fills_up_is_a_clear_error_and_leaves_the_old_tables(tmp_path: Path) -> None:
    publish_records(tmp_path / "out", RECORDS, "run-1")
    before = {path: (tmp_path / "out" / path).read_bytes() for path in visible_files(tmp_path / "out")}
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 7, run.stderr
    assert "no space left to write the tables" in run.stdout
    assert {
        path: (tmp_path / "out" / path).read_bytes() for path in visible_files(tmp_path / "out")
    } == before
