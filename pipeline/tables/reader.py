"""Reading the tables back: one user's current list, and the accounting of the last run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.accounting import CHECK_PREFIX, Accounting, from_rows
from models.errors import InputError
from models.records import RankedItem, Reason, TopK
from models.tables import SCHEMAS
from pipeline.inputs.file_systems import is_url, why_not
from pipeline.tables.output_folder import Published, is_local, local_path, parquet_files, published_receipts

_FUZZY_USERS: Final = 50_000  # beyond, only users with the same beginning are compared
_ATTEMPTS: Final = 5
_SHOWN_USERS: Final = 1_000  # are looked at to tell whether ids are pseudonyms
_PSEUDONYM: Final = re.compile("[0-9a-f]{64}")


def read_latest(output: str, user_id: str) -> TopK:
    """The current list of `user_id`, as it stands in `recommendations_latest`.

    Raises InputError when there are no tables, or the user has no list: unknown (with the nearest
    ids) or erased.
    """
    rows = read_table(output, "recommendations_latest", pc.field("user_id") == user_id)
    if len(rows) == 0:
        raise InputError(_why_no_list(output, user_id))
    return _top_k(rows.sort_by("rank"))


def highest_version(output: str) -> int:
    """The highest state_version in the history: the floor of a restarted clock; 0 without tables.

    Reads the files' statistics only.
    """
    groups = (
        metadata.row_group(place)
        for path in parquet_files(local_path(output) / "recommendations")
        for metadata in [pq.read_metadata(path)]
        for place in range(metadata.num_row_groups)
    )
    column = SCHEMAS["recommendations"].get_field_index("state_version")
    return max((group.column(column).statistics.max for group in groups if group.num_rows), default=0)


def nearest_users(output: str, user_id: str, count: int = 3) -> list[str]:
    """Users with a current list whose ids look like `user_id`, the nearest first."""
    users = pc.unique(read_table(output, "recommendations_latest", columns=["user_id"])["user_id"])
    if len(users) > _FUZZY_USERS:
        users = users.filter(pc.starts_with(users, user_id[:3]))[:_FUZZY_USERS]
    return difflib.get_close_matches(user_id, sorted(users.to_pylist()), count)


def read_accounting(output: str) -> Accounting:
    """The books of the run that was published last. Raises InputError when there are no tables."""
    return from_rows(read_checks(output, CHECK_PREFIX))


def read_checks(output: str, prefix: str) -> list[tuple[str, float]]:
    """(check, value) of the run that was published last, over all of it. Raises InputError."""
    # Rows with a window are of a part of an endless run, or of event time.
    wanted = pc.starts_with(pc.field("check"), prefix) & pc.field("window_start").is_null()
    published = last_published(output)
    if published is not None:
        wanted &= pc.field("run_id") == published.run_id
    rows = read_table(output, "quality", wanted)
    return list(zip(rows["check"].to_pylist(), rows["value"].to_pylist(), strict=True))


def last_published(output: str) -> Published | None:
    """The run that was published last; None before the first."""
    if is_local(output):
        return published_receipts(local_path(output))
    from pipeline.tables.remote_output import remote_receipts  # Beam, which takes its time, is for URLs alone

    return remote_receipts(output)


def count_hindsight_and_tombstones(output: str, run_id: str) -> tuple[int, int]:
    """Rows of `recommendations`, of one run, that are no current lists. Raises InputError."""
    # Ids begin with the run's start, and every row has the clock of when it was emitted.
    begun = datetime.strptime(run_id.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    of_run = pc.field("emitted_time") >= begun
    rows = read_table(output, "recommendations", of_run, ["hindsight", "tombstone"])
    hindsight, tombstones = (pc.sum(rows[name]).as_py() or 0 for name in ("hindsight", "tombstone"))
    return hindsight, tombstones


def read_table(
    output: str, table: str, wanted: pc.Expression | None = None, columns: list[str] | None = None
) -> pa.Table:
    """Rows of one table: those `wanted`, whose row groups alone are decoded. Raises InputError without files.

    Columns that a file of an earlier release lacks are null.
    """
    for attempt in range(_ATTEMPTS):
        files = _files(output, table)
        if not files:
            raise InputError(_no_tables(output, table))
        try:
            return _read_files(files, SCHEMAS[table], wanted, columns)
        except FileNotFoundError:  # a run was published between listing and opening
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _files(output: str, table: str) -> list[str]:
    if is_local(output):
        return [str(path) for path in parquet_files(local_path(output) / table)]
    from pipeline.tables.remote_output import list_files

    try:
        return list_files(f"{output.rstrip('/')}/{table}/*.parquet")
    except Exception as error:  # each file system raises its own
        raise InputError(f"cannot list {output}: {why_not(error, output)}") from error


def _read_files(
    files: list[str], schema: pa.Schema, wanted: pc.Expression | None, columns: list[str] | None
) -> pa.Table:
    # Arrow's own files alone: its threads let go of them late, and one of Python's that is let go of
    # while the interpreter ends aborts the process.
    sources = (_fetched(path) if is_url(path) else path for path in files)
    parts = [
        pq.read_table(file, columns=columns, filters=wanted, partitioning=None, schema=schema)
        for file in sources
    ]
    return pa.concat_tables(parts)


def _fetched(url: str) -> pa.BufferReader:
    from pipeline.tables.remote_output import open_file

    with open_file(url) as file:
        return pa.BufferReader(file.read())


def _no_tables(output: str, table: str) -> str:
    folder = local_path(output) if is_local(output) else output
    if isinstance(folder, Path) and not folder.exists():
        return f"{folder}: there is no such folder; make the tables first: livelist run --output {folder}"
    return f"{folder} holds no table {table}; pass the --output of an earlier `livelist run`"


def _why_no_list(output: str, user_id: str) -> str:
    history = read_table(
        output, "recommendations", pc.field("user_id") == user_id, ["state_version", "tombstone"]
    )
    if len(history) and history.sort_by("state_version")["tombstone"][-1].as_py():
        return f"user {user_id!r} was erased and has no list"
    if not _PSEUDONYM.fullmatch(user_id) and _holds_pseudonyms(output):
        return f"user {user_id!r} has no list in {output}; these tables hold pseudonyms: give --user_id_key"
    near = nearest_users(output, user_id)
    hint = f"did you mean {', '.join(near)}?" if near else "its feedback has not reached these tables"
    return f"user {user_id!r} has no list in {output}; {hint}"


def _holds_pseudonyms(output: str) -> bool:
    users = pc.unique(read_table(output, "recommendations_latest", columns=["user_id"])["user_id"])
    shown = users[:_SHOWN_USERS].to_pylist()
    return bool(shown) and all(map(_PSEUDONYM.fullmatch, shown))


def _top_k(rows: pa.Table) -> TopK:
    found = rows.to_pylist()
    head = found[0]
    return TopK(
        user_id=head["user_id"],
        state_version=head["state_version"],
        items=tuple(_ranked_item(row) for row in found),
        event_time=_micros(rows, "event_time") or 0,
        scored_time=_micros(rows, "scored_time"),
        emitted_time=_micros(rows, "emitted_time") or 0,
        window_end=_micros(rows, "window_end"),
        model_version=head["model_version"],
        index_version=head["index_version"],
        trigger_event_ids=tuple(head["trigger_event_ids"]),
        list_hash=head["list_hash"],
    )


def _micros(rows: pa.Table, name: str) -> int | None:
    value: int | None = rows[name].cast(pa.int64())[0].as_py()
    return value


def _ranked_item(row: Mapping[str, object]) -> RankedItem:
    rank, item_id, score, reasons = row["rank"], row["item_id"], row["score"], row["reasons"]
    assert isinstance(rank, int) and isinstance(item_id, str)  # as the schema says
    assert isinstance(score, float) and isinstance(reasons, list)
    return RankedItem(rank, item_id, score, tuple(_reason(reason) for reason in reasons))


def _reason(fields: Mapping[str, str]) -> Reason:
    return Reason(fields["code"], tuple(fields["event_ids"]), float(fields["contribution"]), fields["text"])
