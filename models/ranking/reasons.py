"""Reasons: which feedback put an item on a list, by how much, and one sentence for people.

A reason's contribution is what the additive score would lose without its evidence, with
index, normalisers and positions held fixed. Scores are linear in the evidence, so that is the
sum of what it gave by all sources. It is negative for what pushed an item down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.ranking.evidence import Batch, Evidence
from models.ranking.item_index import ItemIndex
from models.ranking.log import Floats, Ints, sums
from models.ranking.scoring import Scored
from models.records import Reason
from models.views import Interaction, UserView

#: Every code and what it means.
REASON_CODES: Final[dict[str, str]] = {
    "co_occurrence": "people went on to this after an item of yours",
    "similar_words": "what is said of it resembles what is said of an item of yours",
    "similar_attributes": "it shares category or tags with an item of yours",
    "similar_content": "its texts mean something close to those of an item of yours",
    "your_words": "what is said of it resembles what you wrote about an item of yours",
    "category_trend": "it is trending in the category of an item of yours",
    "resembles_disliked": "it resembles an item that you disliked; the contribution is negative",
    "query": "it fits a request of yours",
    "profile": "it fits what you declared about yourself",
    "topic": "people who care about a topic of yours like it",
    "popular": "many people like it, of late or for long; no evidence of yours",
    "popular_new_user": "many people like it; nothing is known of you yet",
    "seen_again": "you know it already; nothing new was left",
}
_CODE_OF_SOURCE: Final = {
    "graph": "co_occurrence", "forward": "co_occurrence", "two_hops": "co_occurrence",
    "words": "similar_words", "attributes": "similar_attributes", "content": "similar_content",
    "own_words": "your_words", "category": "category_trend", "disliked_words": "resembles_disliked",
    "disliked_attributes": "resembles_disliked", "disliked_content": "resembles_disliked",
    "query_words": "query", "query_content": "query", "profile_words": "profile",
    "profile_attributes": "profile", "topics": "topic",
}  # fmt: skip
_DID: Final = {
    "view": "looked at", "click": "clicked", "dwell": "spent time with", "like": "liked",
    "share": "shared", "save": "saved", "cart": "put in your cart", "purchase": "bought",
    "rating": "rated", "review": "reviewed", "comment": "commented on", "dislike": "disliked",
    "skip": "skipped", "hide": "hid", "impression": "saw",
}  # fmt: skip
_CLEARLY: Final = 0.3  # liking from which a sentence says so


@dataclass(frozen=True, slots=True)
class Shares:
    """What each piece of evidence of one kind gave each selected candidate."""

    kind: str  # a field of `Batch`
    total: Floats  # (selected, evidence of a user): contribution
    source: NDArray[np.int64]  # same shape: place in `gathered` of its largest part


def shares(scored: Scored, selected: Ints) -> list[Shares]:
    """Contributions to the `selected` candidates, kind by kind."""
    place = np.full(len(scored.score), -1, dtype=np.int64)
    place[selected] = np.arange(len(selected))
    kinds: dict[str, list[int]] = {}
    for number, one in enumerate(scored.candidates.gathered):
        kinds.setdefault(one.source.kind, []).append(number)
    return [_kind_shares(scored, place, len(selected), kind, members) for kind, members in kinds.items()]


def _kind_shares(scored: Scored, place: Ints, count: int, kind: str, members: list[int]) -> Shares:
    gathered = scored.candidates.gathered
    width = 1 + max(int(gathered[number].local.max(initial=0)) for number in members)
    total = np.zeros(count * width)
    largest = np.zeros_like(total)
    source = np.full(len(total), members[0], dtype=np.int64)
    for number in members:
        row = place[scored.candidates.slots[number]]
        entries = (row >= 0).nonzero()[0]
        cell = row[entries] * width + gathered[number].local[entries]
        share = sums(cell, scored.given[number][entries], len(total))
        total += share
        size = np.abs(share)
        better = size > largest
        largest[better] = size[better]
        source[better] = number
    shape = (count, width)
    return Shares(kind, total.reshape(shape), source.reshape(shape))


def explain_selected(
    views: Sequence[UserView],
    batch: Batch,
    scored: Scored,
    index: ItemIndex,
    selected: Ints,
    most: int,
    negative: bool = False,
) -> list[tuple[Reason, ...]]:
    """Up to `most` reasons of each selected candidate, the largest contribution first.

    With `negative` also what pushed it down, and the largest in size are kept.
    """
    parts = shares(scored, selected)
    static = index.static_score[scored.candidates.item[selected]]
    table = np.concatenate([part.total for part in parts] + [static[:, None]], axis=1)
    rank_by = np.abs(table) if negative else table
    columns = np.argsort(-rank_by, axis=1, kind="stable")[:, :most]
    found = np.take_along_axis(table, columns, axis=1)
    common = np.zeros((len(selected), 1), dtype=np.int64)
    source = np.take_along_axis(
        np.concatenate([part.source for part in parts] + [common], axis=1), columns, axis=1
    )
    writer = _Writer(views, batch, scored, index, parts)
    rows = zip(
        scored.candidates.user[selected].tolist(), static.tolist(), columns.tolist(), source.tolist(),
        found.tolist(), strict=True,
    )  # fmt: skip
    return [
        writer.reasons(user, popular, list(zip(places, sources, values, strict=True)), negative)
        for user, popular, places, sources, values in rows
    ]


class _Writer:
    """Turns columns of contributions into reasons."""

    def __init__(
        self, views: Sequence[UserView], batch: Batch, scored: Scored, index: ItemIndex, parts: list[Shares]
    ) -> None:
        self._views = views
        self._first: list[int] = batch.histories.starts.tolist()
        self._index = index
        self._columns = [(part.kind, local) for part in parts for local in range(part.total.shape[1])]
        self._codes = [_CODE_OF_SOURCE[one.source.name] for one in scored.candidates.gathered]
        self._origins = {part.kind: _origins(getattr(batch, part.kind)) for part in parts}
        #: Event ids and sentence of each piece of evidence, by user, column and code.
        self._told: dict[tuple[int, int, str], tuple[tuple[str, ...], str]] = {}

    def reasons(
        self, user: int, popular: float, places: list[tuple[int, int, float]], negative: bool
    ) -> tuple[Reason, ...]:
        """Of one item, from its (column, source, contribution), largest in size first."""
        found: list[Reason] = []
        for column, source, value in places:
            if value > 0 or (negative and value < 0):
                common = column == len(self._columns)
                found.append(
                    self._common(user, value) if common else self._evidence(user, column, source, value)
                )
        if not found:
            found.append(self._common(user, popular))
        if negative:
            found.sort(key=lambda reason: -reason.contribution)
        return tuple(found)

    def _common(self, user: int, value: float) -> Reason:
        view = self._views[user]
        known = view.interactions or view.queries or view.profile or view.topics
        if known:
            return Reason("popular", (), value, "Many people like it")
        return Reason("popular_new_user", (), value, "Many people like it, and we do not know you yet")

    def _evidence(self, user: int, column: int, source: int, value: float) -> Reason:
        code = self._codes[source]
        key = (user, column, code)
        told = self._told.get(key)
        if told is None:
            told = self._told[key] = self._tell(user, column, code)
        return Reason(code, told[0], value, told[1])

    def _tell(self, user: int, column: int, code: str) -> tuple[tuple[str, ...], str]:
        """The event ids of a piece of evidence, and what it says."""
        kind, local = self._columns[column]
        view = self._views[user]
        if kind in ("liked", "disliked"):
            interaction = view.interactions[self._origins[kind][(user, local)] - self._first[user]]
            return interaction.event_ids, sentence(code, self._index.title(interaction.item_id), interaction)
        if kind == "queries":
            return (view.queries[len(view.queries) - 1 - local].event_id,), "It fits your request"
        if kind == "profile":
            declared = view.profile[local]
            return (declared.event_id,), f"It fits your {declared.name}: {declared.value}"
        return (), f"People who care about {view.topics[local][0]} like it"


def sentence(code: str, title: str, interaction: Interaction) -> str:
    """One sentence for people."""
    did = _DID.get(interaction.kind, "chose")
    said = interaction.rating is not None or interaction.polarity is not None
    if code == "resembles_disliked":
        return f"It resembles {title}, which you did not like"
    liked = " and liked" if said and interaction.liking >= _CLEARLY and did != "liked" else ""
    if code == "similar_words":
        return f"It is described like {title}, which you {did}{liked}"
    if code == "similar_content":
        return f"What people say of it is close to {title}, which you {did}{liked}"
    if code == "similar_attributes":
        return f"It is of the same sort as {title}, which you {did}{liked}"
    if code == "your_words":
        return f"It fits what you wrote about {title}"
    if code == "category_trend":
        return f"It is in demand where {title} is, which you {did}{liked}"
    return f"Because you {did} {title}{liked and ' and liked it'}"


def _origins(evidence: Evidence) -> dict[tuple[int, int], int]:
    keys = zip(evidence.user.tolist(), evidence.local.tolist(), strict=True)
    return dict(zip(keys, evidence.origin.tolist(), strict=True))
