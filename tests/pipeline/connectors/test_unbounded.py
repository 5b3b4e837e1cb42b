"""Pulled sources as Beam sources: nothing acknowledged before its checkpoint, nothing lost after it."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from pipeline.connectors.addresses import KafkaTopic
from pipeline.connectors.unbounded import (
    Doubted,
    PulledMark,
    PulledMarkCoder,
    PulledReader,
    PulledSource,
    pulled_source,
    read_pulled,
)
from pipeline.connectors.uris import parse_source
from pipeline.inputs.progress import read_progress
from tests.pipeline.connectors.services import Channel, KafkaService, opened, polled, quiet
from tests.pipeline.live.runs import await_that


@pytest.fixture(
    params=[pytest.param("kafka", marks=pytest.mark.java), pytest.param("pubsub", marks=pytest.mark.java)]
)
def channel(request: pytest.FixtureRequest) -> Channel:
    """A fresh topic of each service."""
    made: Channel = request.getfixturevalue(request.param).channel()
    return made


def _reader(source: PulledSource, mark: PulledMark | None = None) -> PulledReader:
    if mark is not None:
        coder = source.get_checkpoint_mark_coder()
        mark = coder.decode(coder.encode(mark))
    reader = source.create_reader(None, mark)
    assert isinstance(reader, PulledReader)
    return reader


def _read(reader: PulledReader, count: int, started: bool = False) -> Iterator[bytes]:
    deadline = time.monotonic() + 60
    more = reader.advance() if started else reader.start()
    while count:
        assert time.monotonic() < deadline, f"{count} records are missing"
        if more:
            count -= 1
            yield reader.get_current()[0]
        if count:
            more = reader.advance()


@pytest.mark.java
def test_what_a_kafka_reader_has_not_read_is_told_by_its_file_and_the_broker(
    kafka: KafkaService, tmp_path: Path
) -> None:
    from pipeline.connectors.kafka import unread_messages

    channel = kafka.channel(partitions=1)
    channel.publish([b"%d" % number for number in range(10)])
    address, file = parse_source(channel.uri), tmp_path / "pulled-0.json"
    assert isinstance(address, KafkaTopic)
    assert unread_messages(address, read_progress(file).offsets) == 9, "the last may be a transaction's mark"
    reader = _reader(PulledSource(address, wait_seconds=0.2, told=str(file)))
    began = time.time()
    list(_read(reader, 4))
    reader.get_checkpoint_mark()
    told = read_progress(file)
    assert unread_messages(address, told.offsets) == 5
    assert began <= told.moved <= time.time()
    reader.close()
    assert unread_messages(replace(address, servers="127.0.0.1:1"), {}) is None


class TestEverySource:
    def test_what_no_complete_checkpoint_holds_comes_again(self, channel: Channel) -> None:
        channel.publish([b"%d" % number for number in range(100)])
        source = PulledSource(parse_source(channel.uri), wait_seconds=0.2)
        reader = _reader(source)
        first = list(_read(reader, 60))
        reader.get_checkpoint_mark().finalize_checkpoint()
        lost = list(_read(reader, 20, started=True))
        reader.get_checkpoint_mark()  # never completed
        reader.close()
        left = opened(channel.uri)
        again = [each.payload for each in polled(left, 40)]
        assert quiet(left, 2.0)
        left.close()
        assert len({*first, *again}) == 100
        assert set(lost) <= set(again)

    def test_a_reader_made_from_an_older_mark_takes_over_what_the_lost_one_held(
        self, channel: Channel
    ) -> None:
        channel.publish([b"%d" % number for number in range(100)])
        (source,) = PulledSource(parse_source(channel.uri), wait_seconds=0.2).split(1)
        assert isinstance(source, PulledSource)
        reader = _reader(source)
        first = set(_read(reader, 30))
        mark = reader.get_checkpoint_mark()
        mark.finalize_checkpoint()
        list(_read(reader, 30, started=True))
        restored = _reader(source, mark)  # the engine went back; the reader before was never closed
        rest = set(_read(restored, 70))
        restored.close()
        assert first | rest == {b"%d" % number for number in range(100)}

    def test_an_engine_reads_all_of_several_splits_and_acknowledges_it(
        self, channel: Channel, tmp_path: Path
    ) -> None:
        channel.publish([b'{"event_time": %d, "n": %d}' % (time.time(), number) for number in range(300)])
        drain, written = tmp_path / "DRAIN", tmp_path / "records"

        def publish_and_drain() -> None:
            await_that(lambda: written.exists() and written.read_bytes().count(b"\n") >= 300, 120)
            channel.publish([b"late %d" % number for number in range(50)])
            await_that(lambda: written.read_bytes().count(b"\n") >= 350, 120)
            drain.touch()

        def write(record: tuple[bytes, str, bytes, str]) -> None:
            with written.open("ab") as file:
                file.write(json.dumps([record[0].decode(), record[1]]).encode() + b"\n")

        thread = threading.Thread(target=publish_and_drain)
        thread.start()
        pipeline = beam.Pipeline("FnApiRunner", options=PipelineOptions([]))
        source = pulled_source(channel.uri, splits=2, wait_seconds=0.1, drain_file=drain)
        read = read_pulled(source, poll_seconds=0)
        _ = pipeline | read | beam.Map(write)
        pipeline.run().wait_until_finish()
        thread.join()
        rows = [json.loads(line) for line in written.read_text().splitlines()]
        assert len({position for _, position in rows}) == 350
        left = opened(channel.uri)
        assert quiet(left)
        left.close()


@pytest.mark.java
def test_kafka_resumes_from_the_mark_and_not_from_the_group(kafka: KafkaService) -> None:
    channel = kafka.channel(partitions=3)
    channel.publish([b"%d" % number for number in range(90)])
    ahead = opened(channel.uri)
    all_received = polled(ahead, 90)
    ahead.commit([each.receipt for each in all_received])
    ahead.close()
    offsets: dict[str, int] = {}  # the next of each partition, after the first thirty
    for each in all_received[:30]:
        key, _, offset = each.position.rpartition(":")
        offsets[key] = max(offsets.get(key, 0), int(offset) + 1)
    parts = list(PulledSource(parse_source(channel.uri), splits=2, wait_seconds=0.2).split(20))
    assert len(parts) == 2
    payloads: set[bytes] = set()
    for part in parts:
        assert isinstance(part, PulledSource)
        mine = {
            key: offsets.get(key, 0) for key in (f"kafka:{channel.topic}/{n}" for n in part.partitions or ())
        }
        reader = _reader(part, PulledMark("x", mine))
        expected = [each for each in all_received if _within(each.position, mine)]
        payloads |= set(_read(reader, len(expected))) if expected else set()
        reader.close()
    firsts = {each.payload for each in all_received if not _within(each.position, offsets)}
    assert payloads | firsts == {b"%d" % number for number in range(90)}


@pytest.mark.java
def test_partitions_that_a_topic_is_given_later_are_read_too(
    kafka: KafkaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    from confluent_kafka import Producer

    monkeypatch.setattr("pipeline.connectors.kafka._FIND_SECONDS", 0.2)
    channel = kafka.channel(partitions=1)
    channel.publish([b"%d" % number for number in range(20)])
    (source,) = PulledSource(parse_source(channel.uri), wait_seconds=0.2).split(20)
    assert isinstance(source, PulledSource)
    reader = _reader(source)
    assert set(_read(reader, 20)) == {b"%d" % number for number in range(20)}
    kafka.server.add_partitions(channel.topic, 4)
    later = Producer({"bootstrap.servers": kafka.server.address})  # which knows that there are four
    for number in range(20, 90):
        later.produce(channel.topic, b"%d" % number, partition=number % 4)
    assert later.flush(30) == 0
    seen = set(_read(reader, 70, started=True))
    assert seen == {b"%d" % number for number in range(20, 90)}
    mark = reader.get_checkpoint_mark()
    assert len(mark.offsets) == 4
    reader.close()
    channel.publish([b"%d" % number for number in range(90, 120)])
    resumed = _reader(source, mark)
    assert set(_read(resumed, 30)) == {b"%d" % number for number in range(90, 120)}
    resumed.close()


def _within(position: str, offsets: dict[str, int]) -> bool:
    key, _, offset = position.rpartition(":")
    return key in offsets and int(offset) >= offsets[key]


def test_marks_survive_their_coder_and_tell_readers_apart() -> None:
    coder = PulledMarkCoder()
    mark = PulledMark("r-1", {"kafka:t/1": 5, "kafka:t/0": 7})
    decoded = coder.decode(coder.encode(mark))
    assert (decoded.reader, decoded.offsets) == ("r-1", mark.offsets)
    assert coder.encode(PulledMark("r-2", mark.offsets)) != coder.encode(mark)
    decoded.finalize_checkpoint()  # in another process there is nothing to acknowledge


def test_the_source_travels_to_workers() -> None:
    source = PulledSource(parse_source("kafka://h:1/t?group=g"), splits=3, drain_file="/x/DRAIN")
    assert pickle.loads(pickle.dumps(source)) == source
    assert PulledSource(parse_source("pubsub://my-project/sub")).name != source.name


def test_a_subscription_is_split_into_pullers_of_their_own() -> None:
    parts = list(PulledSource(parse_source("pubsub://my-project/sub"), splits=3).split(20))
    assert len({part.name for part in parts if isinstance(part, PulledSource)}) == 3
    assert _reader(parts[0]).get_watermark() < MAX_TIMESTAMP


def test_what_an_engine_finalizes_too_soon_is_believed_at_the_checkpoint_behind_it() -> None:
    """Bundles a and b end before a checkpoint is complete, b after it was taken; c and d come later."""
    doubted = Doubted()
    assert doubted.tell(["a"], ended=1.0, now=3.0) == []
    assert doubted.tell(["b"], ended=2.5, now=3.1) == [], "of the same checkpoint"
    assert doubted.tell(["c"], ended=3.5, now=6.0) == [["a"], ["b"]]
    assert doubted.tell(["d"], ended=5.9, now=6.1) == []
    assert doubted.tell([], ended=7.0, now=9.0) == [["c"], ["d"]]
