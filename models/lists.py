"""A ranked list as the record that is published: versions, times, triggers and a hash."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgpack

from models.records import Micros, RankedItem, Reason, TopK
from models.state import UserState

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(TopK))


def list_hash(items: Sequence[RankedItem]) -> str:
    """32 hex digits over items, scores and reasons: equal lists, and only those, have equal hashes."""
    content = [(item.item_id, item.score, [_reason_row(reason) for reason in item.reasons]) for item in items]
    return blake2b(msgpack.packb(content), digest_size=16).hexdigest()


def model_version_of(state: UserState) -> str:
    """The model of the newest scored text; empty when no text was scored."""
    for slot in sorted(state.events, reverse=True):
        score = state.events[slot].score
        if score is not None:
            return score.model_version
    return ""


def top_k(
    user_id: str,
    items: Sequence[RankedItem],
    state: UserState,
    index_version: str,
    triggers: tuple[str, ...],
    emitted_time: Micros,
    window_end: Micros | None = None,
    hindsight: bool = False,
) -> TopK:
    """The list of a user, made from `state` at its current version."""
    return TopK(
        user_id=user_id,
        state_version=state.version,
        items=tuple(items),
        event_time=max(state.events)[0] if state.events else state.erased_time,
        scored_time=state.scored_time or None,
        emitted_time=emitted_time,
        window_end=window_end,
        model_version=model_version_of(state),
        index_version=index_version,
        trigger_event_ids=triggers,
        list_hash=list_hash(items),
        hindsight=hindsight,
    )


def tombstone(
    user_id: str, state: UserState, index_version: str, triggers: tuple[str, ...], emitted_time: Micros
) -> TopK:
    """The row that ends an erased user's list in every sink."""
    empty = top_k(user_id, (), state, index_version, triggers, emitted_time)
    return dataclasses.replace(empty, tombstone=True)


def encode_list(made: TopK) -> bytes:
    """Compact bytes of a list, for state and shuffles."""
    items = [
        (item.rank, item.item_id, item.score, [_reason_row(reason) for reason in item.reasons])
        for item in made.items
    ]
    row = [items if name == "items" else getattr(made, name) for name in _FIELDS]
    packed: bytes = msgpack.packb(row)
    return packed


def _reason_row(reason: Reason) -> tuple[str, tuple[str, ...], float, str]:
    return reason.code, reason.event_ids, reason.contribution, reason.text


def decode_list(encoded: bytes) -> TopK:
    """Reads what `encode_list` wrote."""
    row = list(msgpack.unpackb(encoded, use_list=False))
    row[2] = tuple(
        RankedItem(rank, item_id, score, tuple(Reason(*reason) for reason in reasons))
        for rank, item_id, score, reasons in row[2]
    )
    return TopK(*row)
