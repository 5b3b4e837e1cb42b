"""Lists and their tables for the tests of sinks, and the oracle: what the current lists must be."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import strategies as st

from models.latest import latest_from_lists
from models.records import RankedItem, Reason, TopK
from models.table_columns import table_from_records

Row = tuple[str, int, str, int]


def made_list(user_id: str, version: int, items: int = 3, event_time: int | None = None) -> TopK:
    """A list whose items tell its version."""
    ranked = tuple(
        RankedItem(rank, f"i{version}-{rank}", 1 / rank, (Reason("liked", ("e1",), 0.5, "you liked i1"),))
        for rank in range(1, items + 1)
    )
    time = event_time or version
    hashed = f"{version:032x}"
    return TopK(user_id, version, ranked, time, None, version, None, "m1", "x1", ("e1",), hashed)


def tombstone(user_id: str, version: int, event_time: int | None = None) -> TopK:
    """The user was erased."""
    time, hashed = event_time or version, f"{version:032x}"
    return TopK(user_id, version, (), time, None, version, None, "", "x1", (), hashed, tombstone=True)


def table_of(lists: Sequence[TopK]) -> pa.Table:
    """`recommendations` rows."""
    return table_from_records("recommendations", list(lists))


def current(lists: Sequence[TopK]) -> list[Row]:
    """(user_id, rank, item_id, state_version) of the lists that must stand, whatever the order."""
    latest = latest_from_lists(table_of(lists))
    columns = [latest[name].to_pylist() for name in ("user_id", "rank", "item_id", "state_version")]
    return sorted(zip(*columns, strict=True))


def histories(users: int = 3, versions: int = 6) -> st.SearchStrategy[list[TopK]]:
    """Some versions of some users' lists, erasures among them, each perhaps several times, in any order.

    Event times do not go back as versions rise, as they do not in a user's state.
    """
    one = st.builds(
        lambda user, version, length, erased: (
            tombstone(f"u{user}", version, version)
            if erased
            else made_list(f"u{user}", version, length, version)
        ),
        st.integers(1, users),
        st.integers(1, versions),
        st.integers(1, 4),
        st.booleans() if versions > 4 else st.just(False),
    )
    return st.lists(one, min_size=1, max_size=12).map(_without_rivals)


def _without_rivals(lists: list[TopK]) -> list[TopK]:
    """A version of a user is one list, however often it comes."""
    first: dict[tuple[str, int], TopK] = {}
    return [first.setdefault((each.user_id, each.state_version), each) for each in lists]
