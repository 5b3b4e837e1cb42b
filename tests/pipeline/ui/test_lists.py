"""Users, lists, evidence and history, as the page's endpoints tell them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from models.text import pseudonym
from pipeline.tables.reader import read_latest
from tests.models.table_records import scored, top_k
from tests.pipeline.live.feedback_log import table
from tests.pipeline.tables.runs import RECORDS, publish_records
from tests.pipeline.ui.conftest import HTML
from tests.pipeline.ui.pages import Page, served


def users_of(output: Path) -> list[str]:
    return sorted({row["user_id"] for row in table(output, "recommendations_latest")})


def ids(answer: Any) -> list[str]:
    return [user["user_id"] for user in answer["users"]]


def test_search_completes_what_begins_with_the_letters_and_then_what_holds_them(
    page: Page, output: Path
) -> None:
    users = users_of(output)
    assert ids(page.get("/api/users?q=USER1&limit=100").json) == [user for user in users if "user1" in user]
    held = page.get("/api/users?q=1").json
    assert ids(held) == [user for user in users if "1" in user][:20]
    assert (held["matching"], held["total"]) == (sum("1" in user for user in users), len(users))
    assert ids(page.get("/api/users?q=er1&limit=2").json) == [user for user in users if "er1" in user][:2]
    assert page.get("/api/users?q=nobody").json["users"] == []


def test_what_begins_with_the_letters_comes_first(tmp_path: Path) -> None:
    publish_records(tmp_path, {"recommendations": [top_k(user, 1) for user in ("aab", "b", "cb")]}, "run-1")
    with served(tmp_path) as page:
        assert ids(page.get("/api/users?q=b").json) == ["b", "aab", "cb"]


def test_letters_that_mean_something_in_patterns_mean_themselves(page: Page) -> None:
    assert ids(page.get(f"/api/users?q={quote('<img', safe='')}").json) == [HTML]
    assert page.get("/api/users?q=.*").json["users"] == []


def test_recent_users_are_those_whose_lists_were_made_last(page: Page, output: Path) -> None:
    made = {row["user_id"]: row["emitted_time"] for row in table(output, "recommendations_latest")}
    expected = sorted(made, key=lambda user: (-made[user].timestamp(), user))
    assert ids(page.get("/api/users?limit=5").json) == expected[:5]


def test_any_user_is_one_of_those_with_a_list(page: Page, output: Path) -> None:
    (user,) = ids(page.get("/api/users?order=random").json)
    assert user in users_of(output)


def test_the_list_is_that_of_the_table_with_its_versions(page: Page, output: Path) -> None:
    expected = read_latest(str(output), "user03")
    found = page.of_user("user03", "list").json
    assert [(item["item_id"], item["score"]) for item in found["items"]] == [
        (item.item_id, item.score) for item in expected.items
    ]
    assert [[why["text"] for why in item["reasons"]] for item in found["items"]] == [
        [why.text for why in item.reasons] for item in expected.items
    ]
    for name in ("state_version", "model_version", "index_version", "list_hash"):
        assert found[name] == getattr(expected, name)


def test_every_reason_s_evidence_is_there_but_no_text(page: Page, output: Path) -> None:
    feedback = {row["event_id"]: row for row in table(output, "scored_feedback")}
    cited: set[str] = set()
    for user in users_of(output):
        found = page.of_user(user, "list").json
        wanted = {event for item in found["items"] for why in item["reasons"] for event in why["event_ids"]}
        assert wanted <= set(found["events"]) | {"p1"}  # a profile is no row of scored_feedback
        for event_id, event in found["events"].items():
            row = feedback[event_id]
            assert (event["kind"], event["polarity"]) == (row["kind"], row["polarity"])
            assert (event["topics"], event["intent"]) == (row["topics"], row["intent"])
            assert "text" not in event
        cited |= wanted
    assert len(cited) > 20


def test_items_have_the_titles_of_the_catalogue(page: Page, output: Path) -> None:
    titles = {
        item["item_id"]: item["title"]
        for user in users_of(output)
        for item in page.of_user(user, "list").json["items"]
    }
    assert titles.pop("item01") == "Warm coat"
    titles.pop(HTML, None)
    assert titles
    assert set(titles.values()) == {None}


def test_ids_that_hold_html_and_slashes_are_ids_like_any_other(page: Page) -> None:
    answer = page.of_user(HTML, "list")
    assert answer.json["user_id"] == HTML
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json["events"][f"{HTML}1"]["item_id"] == HTML
    assert page.of_user(HTML, "history").json["user_id"] == HTML


def test_an_unknown_user_is_told_the_nearest(page: Page) -> None:
    for rest in ("list", "history"):
        answer = page.of_user("user3", rest)
        assert (answer.status, answer.json["error"]) == (404, "unknown_user")
        assert "user03" in answer.json["nearest"]


def test_an_erased_user_has_no_list_and_no_history_but_the_erasure(page: Page) -> None:
    answer = page.of_user("user02", "list")
    assert (answer.status, answer.json["error"]) == (410, "erased_user")
    (version,) = page.of_user("user02", "history").json["versions"]
    assert version["tombstone"] and version["items"] == []
    assert "user02" not in ids(page.get("/api/users?q=user&limit=100").json)


def test_lists_of_before_an_erasure_stay_hidden_when_the_user_comes_back(tmp_path: Path) -> None:
    lists = [top_k("ann", 1), top_k("ann", 2, tombstone=True), top_k("ann", 3)]
    publish_records(tmp_path, {"recommendations": lists}, "run-1")
    with served(tmp_path) as page:
        found = page.of_user("ann", "history").json
    assert [(one["state_version"], one["tombstone"]) for one in found["versions"]] == [(3, False), (2, True)]


def test_pages_of_the_history_hold_every_version_once(page: Page, output: Path) -> None:
    stored = [row for row in table(output, "recommendations") if row["user_id"] == "user03"]
    assert len(stored) > 3
    found: list[Any] = []
    before = ""
    while True:
        part = page.of_user("user03", f"history?limit=2{before}").json
        assert part["total"] == len(stored)
        if not part["versions"]:
            break
        found += part["versions"]
        before = f"&before={found[-1]['number']}"
        if found[-1]["number"] == 1:
            break
    assert [one["number"] for one in found] == list(range(len(stored), 0, -1))
    assert sorted(one["list_hash"] for one in found) == sorted(row["list_hash"] for row in stored)
    assert not found[0]["hindsight"] and all(one["hindsight"] for one in found[1:])


def test_what_changed_leads_from_each_version_to_the_next(page: Page, output: Path) -> None:
    changed = 0
    for user in users_of(output):
        versions = page.of_user(user, "history?limit=100").json["versions"][::-1]
        assert versions[0]["changes"] is None
        for earlier, later in pairwise(versions):
            before = {item["item_id"]: item["rank"] for item in earlier["items"]}
            changes = later["changes"]
            for item in changes["left"]:
                assert before.pop(item["item_id"]) == item["rank"]
            for item in changes["moved"]:
                assert before[item["item_id"]] == item["from"]
                before[item["item_id"]] = item["to"]
            before |= {item["item_id"]: item["rank"] for item in changes["entered"]}
            assert before == {item["item_id"]: item["rank"] for item in later["items"]}
            changed += bool(changes["entered"])
    assert changed


def test_the_events_that_triggered_a_version_are_told(page: Page) -> None:
    found = page.of_user("user03", "history").json
    triggers = {event for version in found["versions"] for event in version["trigger_event_ids"]}
    assert triggers and triggers <= set(found["events"])


def test_of_a_text_that_was_written_twice_the_scored_row_counts(tmp_path: Path) -> None:
    lists = {"recommendations": [top_k("ann", 1)]}
    publish_records(tmp_path, {**lists, "scored_feedback": [scored("e1", polarity=-0.5)]}, "run-1")
    publish_records(tmp_path, {"scored_feedback": [scored("e1", polarity=None)]}, "run-2", "append")
    with served(tmp_path) as page:
        assert page.of_user("ann", "list").json["events"]["e1"]["polarity"] == -0.5


@pytest.mark.parametrize(
    "path",
    ["users?limit=0", "users?limit=x", "users?order=best", "users/ann/history?before=-1", "users?limit=101"],
)
def test_a_parameter_that_makes_no_sense_is_refused_with_the_reason(page: Page, path: str) -> None:
    answer = page.get(f"/api/{path}")
    assert (answer.status, answer.json["error"]) == (400, "bad_parameter")
    assert "expected" in answer.json["message"]


def test_with_the_key_of_a_run_users_are_found_by_their_raw_ids(tmp_path: Path) -> None:
    key = b"a key"
    hidden = pseudonym("ann", key)
    publish_records(tmp_path, {"recommendations": [top_k(hidden, 1)]}, "run-1")
    with served(tmp_path, key) as page:
        assert page.of_user("ann", "list").json["user_id"] == hidden
        assert page.of_user(hidden, "list").json["user_id"] == hidden
        assert ids(page.get("/api/users?q=ann").json) == [hidden]
    with served(tmp_path) as page:
        assert page.of_user("ann", "list").status == 404


def test_a_new_publication_is_seen_at_the_next_request(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-1")
    with served(tmp_path) as page:
        assert page.get("/api/users").json["total"] == 2
        publish_records(tmp_path, {"recommendations": [top_k("dora", 10)]}, "run-2", "append")
        assert page.get("/api/users").json["total"] == 3
        assert page.of_user("dora", "list").json["state_version"] == 10
