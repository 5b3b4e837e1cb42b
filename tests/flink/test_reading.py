"""The reading by timer, on an engine that needs no cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import apache_beam as beam
import pytest
from apache_beam.coders import Coder, VarIntCoder
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from models.adapters.base import RawRecord
from pipeline.flink import reading
from pipeline.flink.reading import ReadByTimer
from pipeline.flink.source import DRAIN, follow_on_cluster


class At(CheckpointMark):
    """So many were given out; `told` are the marks that were finalized."""

    told: ClassVar[list[int]] = []

    def __init__(self, place: int) -> None:
        self.place = place

    def finalize_checkpoint(self) -> None:
        self.told.append(self.place)


class AtCoder(Coder):
    def encode(self, value: At) -> bytes:
        return VarIntCoder().encode(value.place)

    def decode(self, encoded: bytes) -> At:
        return At(VarIntCoder().decode(encoded))


@dataclass(frozen=True)
class Numbers(UnboundedSource):
    """From `first` to `last`; says that nothing is there before every tenth."""

    first: int
    last: int

    def split(self, desired_num_splits: int, options: object = None) -> Iterable[UnboundedSource]:
        middle = (self.first + self.last) // 2
        return [Numbers(self.first, middle), Numbers(middle, self.last)]

    def create_reader(self, options: object, checkpoint_mark: At | None) -> UnboundedReader:
        if checkpoint_mark is None:
            return NumbersReader(self, self.first, waited=False)
        return NumbersReader(self, checkpoint_mark.place, waited=True)

    def get_checkpoint_mark_coder(self) -> Coder:
        return AtCoder()


class NumbersReader(UnboundedReader):
    made: ClassVar[list[NumbersReader]] = []

    def __init__(self, source: Numbers, place: int, waited: bool = False) -> None:
        self._source, self._place, self._waited = source, place, waited
        self.closed = False
        self.made.append(self)

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        if self._place == self._source.last:
            return False
        if self._place % 10 == 0 and not self._waited:
            self._waited = True
            return False
        self._waited = False
        self._place += 1
        return True

    def get_current(self) -> RawRecord:
        return b"%d" % (self._place - 1), "", b"", ""

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(self._place)

    def get_watermark(self) -> Timestamp:
        return MAX_TIMESTAMP if self._place == self._source.last else Timestamp(self._place)

    def get_checkpoint_mark(self) -> At:
        return At(self._place)

    def close(self) -> None:
        self.closed = True


def _run(source: UnboundedSource) -> None:
    numbers = [str(number).encode() for number in range(100)]
    with beam.Pipeline("FnApiRunner") as pipeline:
        read = pipeline | "Numbers" >> ReadByTimer(source)
        assert_that(read | beam.Map(lambda record: record[0]), equal_to(numbers))


@pytest.fixture(autouse=True)
def _forget() -> None:
    At.told.clear()
    NumbersReader.made.clear()


def test_everything_is_read_once_over_many_bundles_and_told_when_it_is_safe() -> None:
    _run(Numbers(0, 100))
    assert {50, 100} <= set(At.told)
    assert len(At.told) >= 10, "every rest ends a bundle, and each has its mark"
    assert all(reader.closed for reader in NumbersReader.made)


def test_a_source_that_ended_is_told_to_those_who_would_go_on_from_there(tmp_path: Path) -> None:
    ended = tmp_path / "ALL_READ"
    with beam.Pipeline("FnApiRunner") as pipeline:
        _ = pipeline | "Numbers" >> ReadByTimer(Numbers(0, 100), ended)
    assert ended.exists()


def test_where_no_reader_is_left_another_goes_on_from_the_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading._Readers, "take", lambda *_: None)
    _run(Numbers(0, 100))
    assert len(NumbersReader.made) >= 10


def test_a_reader_that_went_ahead_of_its_checkpoint_is_closed() -> None:
    readers, ahead, here = (
        reading._Readers(),
        NumbersReader(Numbers(0, 9), 7),
        NumbersReader(Numbers(0, 9), 3),
    )
    readers.park("step/0", b"7", ahead)
    assert readers.take("step/0", b"3") is None
    assert ahead.closed
    readers.park("step/0", b"3", here)
    assert readers.take("step/0", b"3") is here
    assert readers.take("step/0", b"3") is None, "one bundle has it at a time"


def test_a_reader_that_nobody_asks_for_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    readers, gone = reading._Readers(), NumbersReader(Numbers(0, 9), 7)
    readers.park("step/0", b"7", gone)
    monkeypatch.setattr(reading, "_KEPT_SECONDS", -1.0)
    assert readers.take("step/1", None) is None
    assert gone.closed


def test_files_are_cut_into_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BUNDLE_RECORDS", 70)
    lines = [json.dumps({"n": number}) for number in range(1000)]
    (tmp_path / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / DRAIN).touch()
    with beam.Pipeline("FnApiRunner") as pipeline:
        read = pipeline | "Follow" >> follow_on_cluster([str(tmp_path / "*.jsonl")], tmp_path)
        assert_that(read | beam.Map(lambda record: record[0].decode()), equal_to(lines))
