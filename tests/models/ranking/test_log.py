"""The log is one canonical set of arrays, however its users were partitioned."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ranking.log import InteractionLog, Ragged, encode_log, merge_logs, spans
from tests.models.ranking.worlds import interaction, random_views, view


def _bytes(log: InteractionLog) -> list[object]:
    queries, topics = log.queries, log.affinities
    columns = [
        log.user, log.item, log.time, log.strength, log.liking, log.rating, log.conflict,
        log.words.starts, log.words.values, log.texts.starts, log.texts.values,
        queries.user, queries.time, queries.words.values, queries.text_hash,
        topics.user, topics.topic, topics.affinity,
    ]  # fmt: skip
    return [log.user_ids, log.item_ids, log.topics, *(column.tobytes() for column in columns)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_partitioning_in_any_order_gives_the_same_log_byte_for_byte(seed, parts, random):  # type: ignore[no-untyped-def]
    views = random_views(seed)
    shuffled = random.sample(views, len(views))
    blobs = [encode_log(shuffled[part::parts]) for part in range(parts)]
    assert _bytes(merge_logs(blobs)) == _bytes(merge_logs([encode_log(views)]))


def test_rows_are_ordered_by_time_then_event_id_then_user() -> None:
    told = [interaction("b", 2), interaction("a", 1)]
    log = merge_logs([encode_log([view("z", (told[0],)), view("y", (told[0], told[1]))])])
    rows = zip(log.user, log.item, strict=True)
    assert [(log.user_ids[user], log.item_ids[item]) for user, item in rows] == [
        ("y", "a"), ("y", "b"), ("z", "b"),
    ]  # fmt: skip
    assert log.newest_time == told[0].time


def test_an_empty_log_has_no_rows_and_a_missing_rating_is_nan() -> None:
    assert len(merge_logs([])) == 0
    assert merge_logs([encode_log([])]).newest_time == 0
    assert not np.isnan(merge_logs([encode_log([view("u", (interaction("a", 1),))])]).rating).any()


def test_words_and_texts_follow_their_rows() -> None:
    views = [view("u", (interaction("a", 5, text="warm zipper"), interaction("b", 1, text="linen")))]
    log = merge_logs([encode_log(views)])
    for row, told in enumerate(views[0].interactions):
        begin, end = log.words.starts[row], log.words.starts[row + 1]
        assert log.words.values[begin:end].tobytes() == told.words
        assert log.texts.take(np.array([row])).values.tolist() == list(told.text_hashes)


def test_keeping_rows_keeps_their_words() -> None:
    views = random_views(7)
    log = merge_logs([encode_log(views)])
    rows = np.arange(0, len(log), 2)
    kept = log.keep(rows)
    assert kept.time.tolist() == log.time[rows].tolist()
    assert kept.words.take(np.array([1])).values.tolist() == log.words.take(rows[1:2]).values.tolist()


def test_spans_lay_rows_end_to_end() -> None:
    ragged = Ragged(np.array([0, 2, 2, 5]), np.arange(5))
    positions, lengths = spans(ragged.starts, np.array([2, 0, 1]))
    assert positions.tolist() == [2, 3, 4, 0, 1]
    assert lengths.tolist() == [3, 2, 0]
