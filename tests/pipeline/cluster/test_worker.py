"""What a worker of a cluster does with the states that it keeps."""

from __future__ import annotations

from apache_beam.runners.worker.sdk_worker import GlobalCachingStateHandler
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster.worker import weight

_ENCODED = st.binary(max_size=200)


@given(st.lists(_ENCODED | st.tuples(_ENCODED, _ENCODED), max_size=20))
def test_a_kept_state_weighs_at_least_what_is_encoded_in_it(state: list[bytes | tuple[bytes, bytes]]) -> None:
    encoded = sum(len(part) if isinstance(part, bytes) else len(b"".join(part)) for part in state)
    assert weight(state) > encoded


@given(st.lists(_ENCODED, max_size=20), _ENCODED)
def test_a_state_that_grows_weighs_more(state: list[bytes], more: bytes) -> None:
    assert weight([*state, more]) > weight([*state])


@given(st.lists(_ENCODED, max_size=20))
def test_of_a_state_that_came_in_parts_its_head_is_weighed(head: list[bytes]) -> None:
    parts = GlobalCachingStateHandler.ContinuationIterable(head, lambda: iter(()))
    assert weight(parts) > weight(head)
