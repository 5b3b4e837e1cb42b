from __future__ import annotations

import dataclasses
import random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from models.latest import explode_lists, latest_from_lists, latest_rows, merge_latest, tombstones_of
from models.records import TopK
from models.table_columns import table_from_records
from tests.models.table_records import top_k

lists = st.builds(
    lambda user, version, count, tombstone, hindsight: top_k(
        user, version, [f"item{version}-{n}" for n in range(count)], tombstone=tombstone, hindsight=hindsight
    ),
    st.sampled_from(("ann", "bob", "cat")),
    st.integers(1, 6),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from((False, False, True)),
)


def unique_versions(found: list[TopK]) -> list[TopK]:
    """A version never repeats for a user."""
    return list({(top.user_id, top.state_version): top for top in found}.values())


many_lists = st.lists(lists, max_size=12).map(unique_versions)


def arrow(found: list[TopK]) -> pa.Table:
    return table_from_records("recommendations", found)


def expected(found: list[TopK]) -> list[tuple[str, int, str]]:
    """The same in plain Python: of each user the newest list that is not hindsight."""
    newest: dict[str, TopK] = {}
    for top in sorted((top for top in found if not top.hindsight), key=lambda top: top.state_version):
        newest[top.user_id] = top
    return [
        (user, item.rank, item.item_id)
        for user, top in sorted(newest.items())
        for item in (() if top.tombstone else top.items)
    ]


def short(rows: pa.Table) -> list[tuple[str, int, str]]:
    return [(row["user_id"], row["rank"], row["item_id"]) for row in rows.to_pylist()]


def merged(parts: list[list[TopK]]) -> pa.Table:
    tables = [arrow([top for top in part if not top.hindsight]) for part in parts]
    graves = [tombstones_of(table) for table in tables]
    return merge_latest(
        [explode_lists(table) for table in tables], pa.concat_tables(graves) if graves else None
    )


@given(many_lists)
def test_the_current_lists_are_the_newest_of_each_user(found: list[TopK]) -> None:
    assert short(latest_from_lists(arrow(found))) == expected(found)


@given(many_lists, st.randoms(use_true_random=False), st.integers(1, 4))
def test_merging_commutes_and_does_not_depend_on_the_parts(
    found: list[TopK], shuffler: random.Random, count: int
) -> None:
    shuffled = shuffler.sample(found, len(found))
    parts = [shuffled[place::count] for place in range(count)]
    assert merged(parts).equals(latest_from_lists(arrow(found)))


@given(many_lists)
def test_merging_the_same_lists_again_changes_nothing(found: list[TopK]) -> None:
    once = latest_from_lists(arrow(found))
    assert merge_latest([once, once]).equals(once)
    assert merged([found, found]).equals(once)


def test_a_stale_list_never_wins() -> None:
    new, stale = arrow([top_k("ann", 9, ["new"])]), arrow([top_k("ann", 3, ["a", "b", "c"])])
    for parts in ([new, stale], [stale, new]):
        assert short(merge_latest([explode_lists(part) for part in parts])) == [("ann", 1, "new")]


def test_a_stale_list_does_not_resurrect_an_erased_user() -> None:
    graves = tombstones_of(arrow([top_k("ann", 9, tombstone=True)]))
    stale = explode_lists(arrow([top_k("ann", 3), top_k("bob", 3, ["coat"])]))
    assert short(merge_latest([stale], graves)) == [("bob", 1, "coat")]


def test_a_user_who_comes_back_after_erasure_has_a_list() -> None:
    found = [top_k("ann", 9, tombstone=True), top_k("ann", 10, ["coat"])]
    assert short(latest_from_lists(arrow(found))) == [("ann", 1, "coat")]


def test_a_later_replay_of_erased_feedback_does_not_bring_the_user_back() -> None:
    erased = top_k("ann", 9, tombstone=True)
    replayed = dataclasses.replace(top_k("ann", 12), event_time=erased.event_time - 5)
    for found in ([erased, replayed], [replayed, erased]):
        assert short(latest_from_lists(arrow(found))) == []


def test_two_lists_with_one_version_do_not_mix_in_either_order() -> None:
    one, two = arrow([top_k("ann", 5, ["a", "b"])]), arrow([top_k("ann", 5, ["c", "d", "e"])])
    results = {
        tuple(short(merge_latest([explode_lists(x), explode_lists(y)]))) for x, y in ((one, two), (two, one))
    }
    assert len(results) == 1
    assert {item for _, _, item in results.pop()} in ({"a", "b"}, {"c", "d", "e"})


def test_the_rows_of_one_list_run_from_rank_one_with_its_reasons() -> None:
    rows = latest_rows(top_k("ann", 7, ["boots", "coat"]))
    assert [(row["rank"], row["item_id"]) for row in rows] == [(1, "boots"), (2, "coat")]
    assert rows[0]["list_hash"] == top_k("ann", 7, ["boots", "coat"]).list_hash
    assert latest_rows(top_k("ann", 8, tombstone=True)) == []
