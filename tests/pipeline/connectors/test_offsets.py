"""What of a partition is done: the laws behind commits in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.connectors.offsets import Progress


@given(st.data())
def test_commits_in_any_order_move_to_the_first_message_that_is_not_done(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 1000))
    # Compacted topics and transactions leave gaps.
    steps = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=30))
    offsets = [start + sum(steps[: place + 1]) for place in range(len(steps))]
    progress = Progress()
    for offset in offsets:
        progress.delivered(offset)
    done = data.draw(st.lists(st.sampled_from(offsets), unique=True))
    for offset in done:
        progress.done(offset)
    waiting = [offset for offset in offsets if offset not in done]
    if waiting and waiting[0] == offsets[0]:
        assert progress.committable == -1
    else:
        last = max(offset for offset in offsets if not waiting or offset < waiting[0])
        assert progress.committable == last + 1
    assert progress.next == offsets[-1] + 1


@given(st.lists(st.integers(0, 50), max_size=20))
def test_commits_of_what_was_never_delivered_change_nothing(strangers: list[int]) -> None:
    progress = Progress()
    for offset in range(100, 105):
        progress.delivered(offset)
    assert not any(progress.done(offset) for offset in strangers)
    assert progress.committable == -1


def test_a_commit_that_comes_twice_moves_once() -> None:
    progress = Progress()
    progress.delivered(0)
    assert progress.done(0)
    assert not progress.done(0)


def test_a_partition_that_was_rewound_forgets_what_was_done_behind() -> None:
    progress = Progress()
    for offset in range(10):
        progress.delivered(offset)
    progress.done(9)
    progress.delivered(3)
    assert not progress.done(9)
    assert progress.done(3)
    assert progress.committable == 4
