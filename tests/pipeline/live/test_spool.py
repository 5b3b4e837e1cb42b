"""Spools: what is acknowledged is on disk, once, whatever comes again or dies in between."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import OutputError
from pipeline.inputs.growing_files import GrowingFiles
from pipeline.live.spool import Spool, delete_read, segments, spooled_records

LIMIT = 1_000


@dataclass(frozen=True)
class Message:
    payload: bytes
    position: str


def read(folder: Path) -> list[tuple[str, bytes]]:
    files = GrowingFiles([str(folder)], LIMIT, split=spooled_records(LIMIT))
    files.look(True)
    records = list(iter(files.take, None))
    return [(record[1], record[0]) for record in records]


payloads = st.binary(max_size=40) | st.sampled_from([b"", b"\n", b"\r\n", b"\t", b'{"a": 1}', b"P\t1\t2"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.tuples(st.integers(0, 30), payloads), max_size=6), max_size=8),
    reopen=st.sets(st.integers(0, 7)),
)
def test_each_position_is_read_back_once_with_its_first_payload(
    batches: list[list[tuple[int, bytes]]], reopen: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, segment_bytes=100)
    first: dict[str, bytes] = {}
    for number, batch in enumerate(batches):
        if number in reopen:
            spool.close()
            spool = Spool(folder, segment_bytes=100)
        seen: dict[str, bytes] = {}
        for place, payload in batch:
            seen[f"topic:{place}"] = payload
        spool.append([Message(payload, f"topic:{place}") for place, payload in batch])
        first = seen | first
    spool.close()
    assert sorted(read(folder)) == sorted(first.items())


def test_a_line_that_a_kill_tore_is_cut_and_its_message_is_taken_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([Message(b"one", "t:1"), Message(b"two", "t:2")])
    spool.close()
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - 2)
    spool = Spool(tmp_path)
    assert spool.append([Message(b"one", "t:1"), Message(b"two", "t:2")]) == 1
    assert sorted(read(tmp_path)) == [("t:1", b"one"), ("t:2", b"two")]


def test_a_message_over_the_limit_is_a_fault_that_names_its_size(tmp_path: Path) -> None:
    Spool(tmp_path).append([Message(b"x" * 5_000, "t:1")])
    files = GrowingFiles([str(tmp_path)], LIMIT, split=spooled_records(LIMIT))
    files.look(True)
    record = files.take()
    assert record is not None
    assert record[3].startswith("too_long: expected at most 1000 bytes a record, got 5000")


def test_segments_go_when_they_are_read_to_their_end_but_the_newest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=1)
    for number in range(6):
        spool.append([Message(b"payload", f"t:{number}")])
    files = GrowingFiles([str(tmp_path)], LIMIT, split=spooled_records(LIMIT))
    files.look(True)
    for _ in range(3):
        files.take()
    assert delete_read(tmp_path, files.places) == 3
    assert delete_read(tmp_path, files.places) == 0
    assert len(read(tmp_path)) == 3


def test_a_full_disk_keeps_nothing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.append([Message(b"one", "t:1")])
    written = os.write

    def full(handle: int, content: bytes) -> int:
        if len(content) > 8:
            return written(handle, content[:8])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="no space left for what was received"):
        spool.append([Message(b"a longer payload", "t:2")])
    monkeypatch.undo()
    assert read(tmp_path) == [("t:1", b"one")]
    assert spool.append([Message(b"a longer payload", "t:2")]) == 1
    assert len(read(tmp_path)) == 2
