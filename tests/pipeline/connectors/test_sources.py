"""One contract for every pulled source, held against the real services."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace

import pytest

from models.errors import InputError
from pipeline.connectors.addresses import PubsubSubscription
from pipeline.connectors.registry import make_source
from pipeline.connectors.uris import parse_source
from tests.pipeline.connectors.services import Channel, PubsubService, delete, opened, polled, quiet

pytestmark = pytest.mark.java


class TestEverySource:
    def test_gives_out_all_that_was_published_under_positions_of_their_own(self, channel: Channel) -> None:
        payloads = [b"message %d" % number for number in range(500)]
        channel.publish(payloads)
        source = opened(channel.uri)
        received = polled(source, 500)
        source.close()
        assert sorted(each.payload for each in received) == sorted(payloads)
        assert len({each.position for each in received}) == 500
        assert all(abs(each.publish_time / 1e6 - time.time()) < 600 for each in received)

    def test_gives_again_at_once_what_was_not_committed_and_nothing_else(self, channel: Channel) -> None:
        channel.publish([b"%d" % number for number in range(100)])
        source = opened(channel.uri)
        first = {each.position: each for each in polled(source, 100)}
        done = sorted(first)[:60]
        source.commit([first[position].receipt for position in done])
        source.close()
        again = opened(channel.uri)
        second = {each.position: each.payload for each in polled(again, 40, seconds=10)}
        assert quiet(again)
        again.close()
        assert second == {position: each.payload for position, each in first.items() if position not in done}

    def test_loses_nothing_whatever_the_order_of_commits(self, channel: Channel) -> None:
        channel.publish([b"%d" % number for number in range(60)])
        source = opened(channel.uri)
        first = polled(source, 60)
        kept = {each.position for each in first[::3]}
        committed = [each.receipt for each in first if each.position not in kept]
        random.Random(1).shuffle(committed)
        source.commit(committed)
        source.close()
        again = opened(channel.uri)
        second = {each.position for each in polled(again, len(kept), seconds=10)}
        while more := again.poll(100, 2.0):
            second |= {each.position for each in more}
        again.close()
        assert kept <= second

    def test_ends_with_every_message_done_where_three_in_ten_come_again(self, channel: Channel) -> None:
        payloads = {b"%d" % number for number in range(200)}
        channel.publish(sorted(payloads))
        chance, rounds = random.Random(7), 0
        done: set[bytes] = set()
        while len(done) < len(payloads):
            rounds += 1
            assert rounds < 40
            source = opened(channel.uri)
            while received := source.poll(50, 1.5 if rounds > 1 else 5.0):
                kept = [each for each in received if chance.random() < 0.7]
                source.commit([each.receipt for each in kept])
                done |= {each.payload for each in kept}
            source.close()
        assert done == payloads
        last = opened(channel.uri)
        left = [each.payload for each in last.poll(500, 2.0)]
        last.close()
        assert set(left) <= payloads

    def test_answers_as_soon_as_there_is_a_message_and_after_the_timeout_where_there_is_none(
        self, channel: Channel
    ) -> None:
        source = opened(channel.uri)
        source.poll(1, 6.0)  # a group takes some seconds to form
        began = time.monotonic()
        assert source.poll(10, 1.0) == []
        assert 0.9 < time.monotonic() - began < 5
        channel.publish([b"now"])
        began = time.monotonic()
        assert [each.payload for each in source.poll(10, 20.0)] == [b"now"]
        assert time.monotonic() - began < 10
        source.close()

    def test_hands_on_bytes_that_mean_nothing_and_lets_them_be_committed(self, channel: Channel) -> None:
        poison = [b"\xff\xfe{", b"not json", b"\n\r\t\0", b"x" * 200_000]
        channel.publish(poison)
        source = opened(channel.uri)
        received = polled(source, 4)
        source.commit([each.receipt for each in received])
        source.close()
        again = opened(channel.uri)
        assert sorted(each.payload for each in received) == sorted(poison)
        assert quiet(again)
        again.close()

    def test_survives_a_restart_of_its_service_and_says_so_once(
        self, channel: Channel, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)  # a command that ran before in this process silences libraries
        channel.publish([b"before"])
        source = opened(channel.uri)
        source.commit([each.receipt for each in polled(source, 1)])
        channel.restart()
        source.poll(1, 1.0)
        channel.publish([b"after"])
        payloads = set()
        while b"after" not in payloads:
            payloads |= {each.payload for each in polled(source, 1)}
        source.close()
        told = [record.message for record in caplog.records if "answer" in record.message]
        assert len(told) == 2, told
        assert "trying again until" in told[0] and "answers again" in told[1]

    def test_names_what_is_not_there(self, channel: Channel) -> None:
        began = time.monotonic()
        with pytest.raises(InputError, match=r"did you mean .*feedback-"):
            make_source(channel.absent).open()
        assert time.monotonic() - began < 15

    def test_ends_in_an_error_when_what_it_reads_is_deleted(self, channel: Channel) -> None:
        source = opened(channel.uri)
        source.poll(1, 5.0)
        delete(channel)
        with pytest.raises(InputError, match=r"no longer|has no subscription"):
            for _ in range(60):
                source.poll(1, 1.0)
        source.close()

    def test_may_be_closed_twice_and_opened_again(self, channel: Channel) -> None:
        channel.publish([b"x"])
        source = opened(channel.uri)
        source.close()
        source.close()
        source.open()
        assert [each.payload for each in polled(source, 1)] == [b"x"]
        source.close()


@pytest.mark.parametrize("uri", ["kafka://127.0.0.1:{}/t?group=g", "pubsub://livelist-tests/sub-1"])
def test_a_service_that_is_not_there_is_an_error_in_bounded_time(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("confluent_kafka", reason="the kafka extra is missing: make test-all")
    pytest.importorskip("google.cloud.pubsub_v1", reason="the gcp extra is missing: make test-all")
    from tests.servers.processes import free_port

    port = free_port()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(InputError, match=f"{port}.*start it"):
        make_source(uri.format(port)).open()
    assert time.monotonic() - began < 15


def test_a_subscription_for_words_gives_the_same_positions_and_is_to_the_same_topic(
    pubsub: PubsubService,
) -> None:
    channel, other = pubsub.channel(), pubsub.channel()
    words = channel.subscribe("words")
    channel.publish([b"one", b"two"])
    address = parse_source(f"{channel.uri}?texts={words}")
    assert isinstance(address, PubsubSubscription)
    found = []
    for each in (address, address.for_texts()):
        source = make_source(each)
        source.open()
        found.append({message.position for message in polled(source, 2)})
        source.close()
    assert found[0] == found[1]
    elsewhere = replace(address, texts=other.uri.rpartition("/")[2]).for_texts()
    with pytest.raises(InputError, match="another subscription to the same topic"):
        make_source(elsewhere).open()
