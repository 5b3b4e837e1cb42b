"""Users, their current lists with the evidence, and the history of their lists with what changed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables.reader import nearest_users
from pipeline.ui.tables import Tables, time_text

Json = dict[str, Any]

_TIMES: Final = ("event_time", "scored_time", "emitted_time", "written_time", "window_end")
_EVENT_COLUMNS: Final = (
    "event_id", "kind", "item_id", "event_time", "rating", "polarity", "intensity", "confidence",
    "topics", "intent", "language", "weight", "conflict", "model_version",
)  # fmt: skip


class UnknownUser(Exception):
    """No list of this user; `erased` when a tombstone says why, else `nearest` ids."""

    def __init__(self, user_id: str, erased: bool, nearest: list[str]) -> None:
        super().__init__(user_id)
        self.erased = erased
        self.nearest = nearest


def find_users(tables: Tables, query: str, limit: int) -> Json:
    """Users whose id begins with `query`, then those that hold it, in any case of letters; by id."""
    users = _directory(tables)
    begins = pc.starts_with(users["user_id"], query, ignore_case=True)
    holds = pc.match_substring(users["user_id"], query, ignore_case=True)
    first = users.filter(begins)[:limit]
    others = users.filter(pc.and_not(holds, begins))[: limit - len(first)]
    shown = pa.concat_tables([first, others])
    return _users(shown, matching=pc.sum(holds).as_py() or 0, total=len(users))


def recent_users(tables: Tables, limit: int) -> Json:
    """Users whose lists were made last, the newest first."""
    users = _directory(tables)
    order = [("refreshed", "descending"), ("user_id", "ascending")]
    newest = users.take(pc.select_k_unstable(users, k=limit, sort_keys=order)) if len(users) else users
    return _users(newest, matching=len(users), total=len(users))


def random_user(tables: Tables) -> Json:
    """Any one user."""
    users = _directory(tables)
    place = secrets.randbelow(len(users)) if len(users) else 0
    return _users(users[place : place + 1], matching=len(users), total=len(users))


def _directory(tables: Tables) -> pa.Table:
    """One row a user with a current list, by id: user_id, refreshed, state_version."""

    def make() -> pa.Table:
        columns = ["user_id", "rank", "emitted_time", "written_time", "state_version"]
        rows = tables.rows("recommendations_latest", pc.field("rank") == 1, columns)
        refreshed = pc.coalesce(rows["written_time"], rows["emitted_time"])
        found = rows.select(["user_id", "state_version"]).append_column("refreshed", refreshed)
        return found.sort_by("user_id").combine_chunks()

    return tables.kept("users", ["recommendations_latest"], make)


def _users(rows: pa.Table, matching: int, total: int) -> Json:
    users = [
        {
            "user_id": row["user_id"],
            "refreshed_time": time_text(row["refreshed"]),
            "state_version": row["state_version"],
        }
        for row in rows.to_pylist()
    ]
    return {"users": users, "matching": matching, "total": total}


def current_list(tables: Tables, user_id: str) -> Json:
    """The list of `recommendations_latest` with the evidence that its reasons cite. Raises UnknownUser."""
    of_user = pc.field("user_id") == user_id
    rows = tables.rows("recommendations_latest", of_user).sort_by("rank").to_pylist()
    if not rows:
        raise _unknown(tables, user_id)
    head = rows[0]
    title = tables.title()
    items = [_item(row, title(row["item_id"])) for row in rows]
    cited = {*_cited(items), *head["trigger_event_ids"]}
    return {
        **_version(head),
        "user_id": user_id,
        "items": items,
        "events": _events(tables, user_id, cited),
    }


def history(tables: Tables, user_id: str, limit: int, before: int | None = None) -> Json:
    """Versions of the user's list, the newest first, each with what changed since the one before.

    Versions are numbered from 1; `before` gives those below a number. Lists before an erasure are
    left out. Raises UnknownUser.
    """
    rows = _versions(tables, user_id)
    if not rows:
        raise _unknown(tables, user_id)
    end = len(rows) if before is None else max(0, min(before - 1, len(rows)))
    begin = max(0, end - limit)
    title = tables.title()
    made = [_listed(row, title) for row in rows[max(0, begin - 1) : end]]
    first = end - len(made)
    told = []
    for place, version in enumerate(made):
        number = first + place + 1
        if number > begin:
            earlier = made[place - 1] if place else None
            told.append({"number": number, **version, "changes": _changes(earlier, version)})
    cited = {*_cited(item for one in told for item in one["items"])}
    cited.update(event_id for one in told for event_id in one["trigger_event_ids"])
    return {
        "user_id": user_id,
        "total": len(rows),
        "versions": told[::-1],
        "events": _events(tables, user_id, cited),
    }


def _versions(tables: Tables, user_id: str) -> list[Json]:
    rows = tables.rows("recommendations", pc.field("user_id") == user_id).to_pylist()
    rows.sort(key=lambda row: (row["state_version"], not row["hindsight"], row["event_time"]))
    graves = [place for place, row in enumerate(rows) if row["tombstone"]]
    return rows[graves[-1] :] if graves else rows


def _listed(row: Mapping[str, Any], title: Callable[[str], str | None]) -> Json:
    return {
        **_version(row),
        "hindsight": row["hindsight"],
        "tombstone": row["tombstone"],
        "items": [_item(item, title(item["item_id"])) for item in row["items"]],
    }


def _changes(earlier: Json | None, version: Json) -> Json | None:
    """What entered, left and moved; None for the first version there is."""
    if earlier is None:
        return None
    before = {item["item_id"]: item for item in earlier["items"]}
    after = {item["item_id"]: item for item in version["items"]}
    return {
        "entered": [_change(item) for name, item in after.items() if name not in before],
        "left": [_change(item) for name, item in before.items() if name not in after],
        "moved": [
            {**_named(item), "from": before[name]["rank"], "to": item["rank"]}
            for name, item in after.items()
            if name in before and before[name]["rank"] != item["rank"]
        ],
    }


def _named(item: Json) -> Json:
    return {"item_id": item["item_id"], "title": item["title"]}


def _change(item: Json) -> Json:
    return {**_named(item), "rank": item["rank"], "reason": next(iter(item["reasons"]), None)}


def _version(row: Mapping[str, Any]) -> Json:
    versions = ("state_version", "model_version", "index_version", "list_hash", "trigger_event_ids")
    return {
        **{name: row[name] for name in versions},
        **{name: time_text(row[name]) for name in _TIMES},
        "freshness": {
            "event_to_emitted_seconds": _seconds(row["event_time"], row["emitted_time"]),
            "emitted_to_written_seconds": _seconds(row["emitted_time"], row["written_time"]),
            "event_to_written_seconds": _seconds(row["event_time"], row["written_time"]),
        },
    }


def _seconds(begin: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - begin).total_seconds()


def _item(row: Mapping[str, Any], title: str | None) -> Json:
    return {
        "rank": row["rank"],
        "item_id": row["item_id"],
        "title": title,
        "score": row["score"],
        "reasons": row["reasons"],
    }


def _cited(items: Iterable[Json]) -> Iterable[str]:
    return (event_id for item in items for reason in item["reasons"] for event_id in reason["event_ids"])


def _events(tables: Tables, user_id: str, event_ids: Iterable[str]) -> Json:
    """event_id -> what is known of it. Retractions and events that no longer count are in no table."""
    wanted = sorted(event_ids)
    if not wanted:
        return {}
    of_user = (pc.field("user_id") == user_id) & pc.field("event_id").isin(wanted)
    title = tables.title()
    found: Json = {}
    for row in tables.rows("scored_feedback", of_user, _EVENT_COLUMNS).to_pylist():
        known = found.get(row["event_id"])
        # An endless run writes a text twice: as it came, and with its score.
        if known is None or row["polarity"] is not None or known["polarity"] is None:
            item_id = row["item_id"]
            of_item = None if item_id is None else title(item_id)
            found[row["event_id"]] = {**row, "event_time": time_text(row["event_time"]), "title": of_item}
    return found


def _unknown(tables: Tables, user_id: str) -> UnknownUser:
    columns = ["state_version", "hindsight", "tombstone"]
    rows = tables.rows("recommendations", pc.field("user_id") == user_id, columns)
    current = rows.filter(pc.invert(rows["hindsight"])).sort_by("state_version")
    erased = bool(len(current)) and current["tombstone"][-1].as_py()
    return UnknownUser(user_id, erased, [] if erased else nearest_users(str(tables.output), user_id))
