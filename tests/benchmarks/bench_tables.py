"""What do the output tables cost beside the plain way: a dict a row, and a file a table?

Makes lists of 10 items with 3 reasons each from a fixed seed, in one core. Prints, in one run:
records to Arrow by columns and by dicts, the whole publication beside nothing but
`pyarrow.parquet.write_table` of the same rows, a read of one user, and a snapshot of an endless run.

    python -m tests.benchmarks.bench_tables --lists 20000
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.records import RankedItem, Reason, TopK
from models.table_columns import table_from_records
from models.tables import SCHEMAS
from pipeline.tables.files import Shard, TableLimits, publish_shards, sort_rows
from pipeline.tables.output_folder import stream_path
from pipeline.tables.reader import read_latest
from pipeline.tables.shards import store_shard, write_shard
from pipeline.tables.sinks import prepare_output
from pipeline.tables.snapshots import Snapshots, take_snapshot

NAME = "recommendations"


def make_list(number: int, version: int, chance: random.Random) -> TopK:
    """A list with reasons as long as real ones."""
    items = tuple(
        RankedItem(
            rank, f"item{chance.randrange(10_000):05d}", 10 - rank + chance.random(), make_reasons(chance)
        )
        for rank in range(1, 11)
    )
    return TopK(
        user_id=f"user{number:06d}",
        state_version=version,
        items=items,
        event_time=1_700_000_000_000_000 + number,
        scored_time=None,
        emitted_time=1_700_000_000_000_000 + version,
        window_end=None,
        model_version="model-1",
        index_version="index-1",
        trigger_event_ids=(f"e{number}",),
        list_hash=f"{chance.getrandbits(128):032x}",
    )


def make_reasons(chance: random.Random) -> tuple[Reason, ...]:
    """Three of them, with one or two events each."""
    return tuple(
        Reason(
            "also_liked",
            tuple(f"e{chance.randrange(200_000):08d}" for _ in range(1 + place % 2)),
            chance.random(),
            f"because you liked item{chance.randrange(10_000):05d}",
        )
        for place in range(3)
    )


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_columns(lists: list[TopK]) -> pa.Table:
    """As the job does."""
    return pa.concat_tables(
        [table_from_records(NAME, lists[start : start + 2_000]) for start in range(0, len(lists), 2_000)]
    )


def by_dicts(lists: list[TopK]) -> pa.Table:
    """The plain way."""
    return pa.Table.from_pylist([dataclasses.asdict(top) for top in lists], SCHEMAS[NAME])


def publish(output: Path, lists: list[TopK]) -> None:
    """Records to published tables, without the engine."""
    with prepare_output(str(output), "bench"):
        rows = sort_rows(NAME, by_columns(lists))
        path = write_shard(str(output), "bench", NAME, rows)
        shard = Shard(NAME, path, len(rows), rows.nbytes)
        publish_shards(output, "bench", "replace", [shard], TableLimits())


def snapshot(output: Path, lists: list[TopK]) -> float:
    """Seconds that folding `lists` into the tables of `output` takes."""
    with prepare_output(str(output), "stream", "append"), Snapshots(str(output), "stream", "append", 3_600):
        rows = sort_rows(NAME, by_columns(lists))
        store_shard(stream_path(output, "stream") / NAME, NAME, rows)
        return seconds(lambda: take_snapshot(output, "stream"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lists", type=int, default=20_000)
    count: int = parser.parse_args().lists
    chance = random.Random(7)
    lists = [make_list(number, 1, chance) for number in range(count)]
    python = f"{platform.machine()}, Python {platform.python_version()}"
    print(f"{count:,} lists of 10 items with 3 reasons; {python}")
    columns, dicts = seconds(lambda: by_columns(lists)), seconds(lambda: by_dicts(lists))
    ratio = f"{dicts / columns:.1f} x as fast as by dicts"
    print(f"to Arrow by columns  {columns / count * 1e6:8.1f} us a list, {ratio}")
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "out")
        plain = seconds(lambda: pq.write_table(by_columns(lists), Path(scratch, "plain"), compression="zstd"))
        whole = seconds(lambda: publish(output, lists))
        print(
            f"records to tables    {whole:8.2f} s, {whole / plain:.1f} x one plain file of the history alone"
        )
        one = seconds(lambda: read_latest(str(output), lists[count // 2].user_id))
        print(f"one user's list      {one * 1e3:8.1f} ms")
        fresh = [make_list(number, 2, chance) for number in range(0, count, 20)]
        print(f"snapshot of {len(fresh):,}    {snapshot(output, fresh):8.2f} s with {count:,} current lists")
    print(f"peak memory          {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")


if __name__ == "__main__":
    main()
