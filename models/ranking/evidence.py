"""A batch of users as flat arrays: what each did, asked for and declared, with positions and weights.

A user's evidence is numbered within the user, so nothing depends on who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.ranking.config import RankingConfig
from models.ranking.log import Floats, InteractionLog, Ints, Ragged, starts_of
from models.records import MICROS_PER_DAY, Micros
from models.views import UserView


@dataclass(frozen=True, slots=True)
class Histories:
    """Interactions of a batch of users, each user's oldest first; item -1 is not in the index."""

    starts: Ints  # (users + 1,)
    user: Ints  # of each row
    item: Ints
    strength: Floats
    liking: Floats
    words: Callable[[Ints], Ragged]  # hashed words of the given rows

    @property
    def users(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """Pieces of evidence of one kind, flat over the batch, sorted by user."""

    user: Ints  # in the batch
    local: Ints  # number within the user's evidence of this kind, from 0
    origin: Ints  # row in `Histories`, or place among the user's queries or profile attributes
    item: Ints  # -1: not about an item
    weight: Floats  # >= 0
    words: Callable[[Ints], Ragged]  # of the given `origin`s
    rows: Ragged  # of other matrices: text, attribute or topic rows; of interactions none

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Batch:
    """All evidence of a batch of users by kind, and what they have seen."""

    histories: Histories
    liked: Evidence  # local = position, 0 the newest
    disliked: Evidence
    queries: Evidence
    profile: Evidence
    topics: Evidence

    @property
    def users(self) -> int:
        return self.histories.users


def no_words(rows: Ints) -> Ragged:
    """No words for any row."""
    return Ragged(np.zeros(len(rows) + 1, dtype=np.int64), np.zeros(0, dtype=np.uint16))


_NONE = np.zeros(0, dtype=np.int64)
_NO_ROWS = Ragged(np.zeros(1, dtype=np.int64), _NONE)


def no_evidence() -> Evidence:
    """None of a kind."""
    return Evidence(_NONE, _NONE, _NONE, _NONE, np.zeros(0), no_words, _NO_ROWS)


def history_batch(histories: Histories, history: int) -> Batch:
    """The batch of users who only have interactions."""
    none = no_evidence()
    return Batch(histories, liked(histories, history), disliked(histories, history // 2), none, none, none)


def liked(histories: Histories, most: int) -> Evidence:
    """The newest `most` interactions with a positive value; position 0 is the newest of them."""
    rows = (histories.strength > 0) & (histories.liking > 0) & (histories.item >= 0)
    return _newest(histories, rows, histories.strength, most)


def disliked(histories: Histories, most: int) -> Evidence:
    """The newest `most` interactions with a negative value, weighted by how negative they are."""
    rows = (histories.strength > 0) & (histories.liking < 0) & (histories.item >= 0)
    return _newest(histories, rows, -histories.strength * histories.liking, most)


def _newest(histories: Histories, which: NDArray[np.bool_], weight: Floats, most: int) -> Evidence:
    rows = which.nonzero()[0]
    if not len(rows):
        return no_evidence()
    user = histories.user[rows]
    ends = np.bincount(user, minlength=histories.users).cumsum()
    position = ends[user] - 1 - np.arange(len(rows))
    if len(rows) > most:
        kept = (position < most).nonzero()[0]
        rows, user, position = rows[kept], user[kept], position[kept]
    return Evidence(user, position, rows, histories.item[rows], weight[rows], histories.words, _NO_ROWS)


def log_histories(log: InteractionLog, item: Ints, users: Ints) -> Histories:
    """Histories of some users (ascending) of a log; `item` maps the log's rows to the index's items."""
    place = np.full(len(log.user_ids), -1, dtype=np.int64)
    place[users] = np.arange(len(users))
    rows = (place[log.user] >= 0).nonzero()[0]
    rows = rows[np.argsort(place[log.user[rows]], kind="stable")]
    user = place[log.user[rows]]
    starts = starts_of(np.bincount(user, minlength=len(users)))
    strength, liking = log.strength[rows], log.liking[rows]
    return Histories(starts, user, item[rows], strength, liking, lambda some: log.words.take(rows[some]))


def view_histories(views: Sequence[UserView], find: Callable[[str], int]) -> Histories:
    """Histories of views; `find` gives an item's place in the index, or -1."""
    flat = [one for view in views for one in view.interactions]
    count = len(flat)
    lengths = np.fromiter((len(view.interactions) for view in views), np.int64, len(views))
    return Histories(
        starts_of(lengths),
        np.arange(len(views)).repeat(lengths),
        np.fromiter((find(one.item_id) for one in flat), np.int64, count),
        np.fromiter((one.strength for one in flat), np.float64, count),
        np.fromiter((one.liking for one in flat), np.float64, count),
        lambda rows: ragged_words(flat[row].words for row in rows),
    )


def ragged_words(texts: Iterable[bytes]) -> Ragged:
    """Rows of little-endian uint16."""
    rows = list(texts)
    lengths = np.fromiter((len(row) // 2 for row in rows), np.int64, len(rows))
    return Ragged(starts_of(lengths), np.frombuffer(b"".join(rows), dtype="<u2"))


def view_batch(
    views: Sequence[UserView],
    find: Callable[[str], int],
    find_text: Callable[[int], int],
    find_name: Callable[[str], int],
    find_topic: Callable[[str], int],
    history: int,
    config: RankingConfig,
    clock: Micros,
) -> Batch:
    """The batch of views; the `find`s give rows of the index's matrices, or -1."""
    histories = view_histories(views, find)
    return Batch(
        histories,
        liked(histories, history),
        disliked(histories, history // 2),
        _queries(views, find_text, config, clock),
        _profile(views, find_name),
        _topics(views, find_topic),
    )


def _queries(
    views: Sequence[UserView], find_text: Callable[[int], int], config: RankingConfig, clock: Micros
) -> Evidence:
    found = [
        (user, place, len(view.queries) - 1 - place, query)
        for user, view in enumerate(views)
        for place, query in enumerate(view.queries)
        if place >= len(view.queries) - config.queries
    ]
    if not found:
        return no_evidence()
    half_life = config.query_half_life_days * MICROS_PER_DAY
    words = {(user, place): query.words for user, place, _, query in found}
    owner = [(user, place) for user, place, _, _ in found]
    rows = [[row] if (row := find_text(query.text_hash)) >= 0 else [] for _, _, _, query in found]
    return Evidence(
        np.array([user for user, _ in owner]),
        np.array([local for _, _, local, _ in found]),
        np.arange(len(found)),
        np.full(len(found), -1),
        np.array([2.0 ** (-max(clock - query.time, 0) / half_life) for _, _, _, query in found]),
        lambda some: ragged_words(words[owner[one]] for one in some),
        ragged_rows(rows),
    )


def _profile(views: Sequence[UserView], find_name: Callable[[str], int]) -> Evidence:
    found = [
        (user, place, attribute)
        for user, view in enumerate(views)
        for place, attribute in enumerate(view.profile)
    ]
    if not found:
        return no_evidence()
    rows = [[row] if (row := find_name(one.value.strip().casefold())) >= 0 else [] for _, _, one in found]
    return Evidence(
        np.array([user for user, _, _ in found]),
        np.array([place for _, place, _ in found]),
        np.arange(len(found)),
        np.full(len(found), -1),
        np.ones(len(found)),
        lambda some: ragged_words(found[one][2].words for one in some),
        ragged_rows(rows),
    )


def _topics(views: Sequence[UserView], find_topic: Callable[[str], int]) -> Evidence:
    found = [
        (user, place, row, affinity)
        for user, view in enumerate(views)
        for place, (name, affinity) in enumerate(view.topics)
        if affinity > 0 and (row := find_topic(name)) >= 0
    ]
    if not found:
        return no_evidence()
    return Evidence(
        np.array([user for user, _, _, _ in found]),
        np.array([place for _, place, _, _ in found]),
        np.arange(len(found)),
        np.full(len(found), -1),
        np.array([affinity for _, _, _, affinity in found]),
        no_words,
        ragged_rows([[row] for _, _, row, _ in found]),
    )


def ragged_rows(rows: Sequence[Sequence[int]]) -> Ragged:
    """Rows of integers."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return Ragged(starts_of(lengths), np.array([one for row in rows for one in row], dtype=np.int64))
