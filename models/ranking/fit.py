"""Fits the fusion: predicts each user's last known interaction from an index learned without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.ranking.evidence import Histories, history_batch, log_histories
from models.ranking.fusion import STATICS, Fusion, default_fusion, fit_softmax, squash
from models.ranking.item_index import ItemIndex
from models.ranking.learning import Arrays, Knowledge, learn_arrays
from models.ranking.log import Floats, InteractionLog, Ints, starts_of
from models.ranking.scoring import CELLS, Scored, score_candidates
from models.ranking.sources import SOURCES

_EXTRA = 100  # of the most popular items among each user's candidates
_TOP = 10  # places in which a hit counts


def static_features(arrays: Arrays) -> dict[str, Floats]:
    """Each static feature by name, (items,): in [0, 1], quality in [-1, 1]."""
    features = {}
    for name in STATICS:
        values = arrays[name]
        if name == "popularity":
            values = np.log1p(values)
        greatest = float(np.max(np.abs(values), initial=0.0))
        features[name] = values / greatest if greatest > 0 else np.zeros(len(values))
    return features


def static_scores(arrays: Arrays, fusion: Fusion) -> Floats:
    """What each item scores without evidence."""
    score = np.zeros(len(arrays["popularity"]))
    for name, values in static_features(arrays).items():
        score += squash(values, fusion.statics.get(name, (0.0, 0.0)))
    return score


def add_static(arrays: Arrays, fusion: Fusion) -> None:
    """Adds the static score and the order of available items by it."""
    score = static_scores(arrays, fusion)
    order = np.lexsort((-arrays["popularity"], -score))
    arrays["static_score"] = score
    arrays["static_order"] = order[arrays["available"][order]]


@dataclass(frozen=True)
class Sample:
    """One softmax problem: features of each user's candidates and which one came next."""

    features: NDArray[np.float32]  # (candidates, features)
    starts: Ints
    target: Ints  # row of each user's held-out item
    popularity: Floats
    item: Ints


def fit_fusion(log: InteractionLog, item: Ints, known: Knowledge, catalogue: Arrays) -> Fusion:
    """The weights; the defaults where there is too little feedback."""
    config = known.config
    held = held_out_rows(log, config.fit_users)
    if len(held) < config.fit_minimum:
        return default_fusion()
    kept = np.setdiff1d(np.arange(len(log)), held, assume_unique=True)
    arrays = catalogue | learn_arrays(log.keep(kept), item[kept], known)
    add_static(arrays, default_fusion())
    index = ItemIndex(arrays, {"config": {"history": config.history}})
    names = [name for source in SOURCES if source.learned for name in source.channels()]
    sample = _sample(index, log, item, held, kept, names)
    return _fit(sample, names)


def held_out_rows(log: InteractionLog, most: int) -> Ints:
    """The last interaction of users with at least three, `most` users at most, spread over all; ascending."""
    counts = np.bincount(log.user, minlength=len(log.user_ids))
    last = np.full(len(log.user_ids), -1, dtype=np.int64)
    np.maximum.at(last, log.user, np.arange(len(log)))
    users = np.flatnonzero(counts >= 3)
    if len(users) > most:
        users = users[np.linspace(0, len(users) - 1, most).astype(np.int64)]
    return np.sort(last[users])


def _sample(
    index: ItemIndex, log: InteractionLog, item: Ints, held: Ints, kept: Ints, names: list[str]
) -> Sample:
    rest, of_rest = log.keep(kept), item[kept]
    users = log.user[held]
    order = np.argsort(users)
    users, targets = users[order], item[held][order]
    step = max(1, CELLS // max(index.items, 1))
    parts = [
        _part(
            index,
            log_histories(rest, of_rest, users[begin : begin + step]),
            targets[begin : begin + step],
            names,
        )
        for begin in range(0, len(users), step)
    ]
    sizes = np.cumsum([0, *(len(part.item) for part in parts)])
    return Sample(
        np.concatenate([part.features for part in parts]),
        starts_of(np.concatenate([np.diff(part.starts) for part in parts])),
        np.concatenate([part.target + size for part, size in zip(parts, sizes, strict=False)]),
        np.concatenate([part.popularity for part in parts]),
        np.concatenate([part.item for part in parts]),
    )


def _part(index: ItemIndex, histories: Histories, targets: Ints, names: list[str]) -> Sample:
    """A batch's part; the held-out item is always among the candidates."""
    batch = history_batch(histories, index.history)
    eligible = np.repeat(index.available[None, :], batch.users, axis=0)
    eligible[histories.user, histories.item] = False
    rows = np.arange(batch.users)
    eligible[rows, targets] = True
    wanted = rows * index.items + targets
    extra = np.full(batch.users, _EXTRA) + np.diff(histories.starts)
    scored = score_candidates(batch, index, None, extra, eligible, forced=wanted)
    place = np.searchsorted(scored.user * index.items + scored.item, wanted)
    return Sample(
        _features(scored, index, names), scored.starts, place, index.popularity[scored.item], scored.item
    )


def _features(scored: Scored, index: ItemIndex, names: list[str]) -> NDArray[np.float32]:
    statics = static_features(dict(index.arrays))
    features = np.zeros((len(scored.item), 2 * (len(names) + len(statics))), dtype=np.float32)
    for channel in scored.channels:
        if channel.name in names:
            column = 2 * names.index(channel.name)
            ratio = channel.strength / channel.norm[scored.user]
            features[:, column], features[:, column + 1] = ratio, np.sqrt(ratio)
    for number, values in enumerate(statics.values()):
        column = 2 * (len(names) + number)
        features[:, column] = values[scored.item]
        features[:, column + 1] = np.sqrt(np.maximum(values[scored.item], 0.0))
    return features


def _fit(sample: Sample, names: list[str]) -> Fusion:
    everything = [*names, *STATICS]
    lower = np.zeros(2 * len(everything))
    weights = fit_softmax(sample.features, sample.starts, sample.target, lower)
    pairs = {
        name: (float(weights[2 * number]), float(weights[2 * number + 1]))
        for number, name in enumerate(everything)
    }
    fitted = default_fusion()
    channels = dict(fitted.channels) | {name: pairs[name] for name in names}
    score = sample.features @ weights.astype(np.float32)
    figures = {
        "hit_rate": _hit_rate(sample, score),
        "hit_rate_popularity": _hit_rate(sample, sample.popularity),
    }
    return Fusion(channels, {name: pairs[name] for name in STATICS}, figures=figures)


def _hit_rate(sample: Sample, score: NDArray[np.floating]) -> float:
    """Share of users whose held-out item is among the first ten; of equals half are before it."""
    group = np.repeat(np.arange(len(sample.target)), np.diff(sample.starts))
    goal = score[sample.target][group]
    before = (
        np.bincount(group, weights=(score > goal) + 0.5 * (score == goal), minlength=len(sample.target)) - 0.5
    )
    return float(np.mean(before < _TOP))
