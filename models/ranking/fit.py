"""Fits the fusion: predicts each user's last known interaction from an index learned without it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.ranking.evidence import Histories, history_batch, log_histories
from models.ranking.fusion import STATICS, Fusion, default_fusion, squash
from models.ranking.item_index import ItemIndex
from models.ranking.learning import Arrays, Knowledge, learn_arrays
from models.ranking.log import Floats, InteractionLog, Ints, starts_of, sums
from models.ranking.scoring import CELLS, Candidates, find_candidates, gather_all
from models.ranking.softmax import fit_softmax
from models.ranking.sources import PLACES, SOURCES, decay_table

_EXTRA = 100  # of the most popular items among each user's candidates
_CANDIDATES = 300  # of each user's that the softmax is over, about
_TOP = 10  # places in which a hit counts
_LEAST_USERS = 10  # fewer prove nothing
_ERRORS = 2.5  # standard errors that a gain over popularity has to exceed


def static_features(arrays: Arrays) -> dict[str, Floats]:
    """Each static feature by name, (items,): in [0, 1], quality in [-1, 1]."""
    features = {}
    for name in STATICS:
        values = arrays[name]
        if name in ("popularity", "users"):
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
class Fit:
    """What the feedback proves."""

    fusion: Fusion | None  # None: nothing that is better than popularity
    figures: dict[str, float]


@dataclass(frozen=True)
class Sample:
    """One softmax problem: features of each user's candidates and which one came next."""

    features: NDArray[np.float32]  # (candidates, features)
    starts: Ints
    target: Ints  # row of each user's held-out item
    popularity: Floats  # users of each candidate
    item: Ints


def fit_fusion(log: InteractionLog, item: Ints, known: Knowledge, catalogue: Arrays) -> Fit:
    """The weights under which users' last known interactions are found better than by popularity."""
    config = known.config
    held = held_out_rows(log, config.fit_users)
    if len(held) < _LEAST_USERS:
        return Fit(None, {"users": float(len(held))})
    kept = np.setdiff1d(np.arange(len(log)), held, assume_unique=True)
    arrays = catalogue | learn_arrays(log.keep(kept), item[kept], known)
    add_static(arrays, default_fusion())
    index = ItemIndex(arrays, {"config": {"history": config.history}})
    names = [name for source in SOURCES if source.learned for name in source.channels()]
    sample = _sample(index, log, item, held, kept, names)
    return _best_proven(sample, names, config.fit_minimum)


def held_out_rows(log: InteractionLog, most: int) -> Ints:
    """The last interaction of users with at least two, `most` users at most, spread over all; ascending."""
    counts = np.bincount(log.user, minlength=len(log.user_ids))
    last = np.full(len(log.user_ids), -1, dtype=np.int64)
    np.maximum.at(last, log.user, np.arange(len(log)))
    users = np.flatnonzero(counts >= 2)
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
    wanted = np.arange(batch.users) * index.items + targets
    extra = np.full(batch.users, _EXTRA) + np.diff(histories.starts)
    found = find_candidates(gather_all(batch, index), index, extra, eligible, forced=wanted)
    key = found.user * index.items + found.item
    place = np.searchsorted(key, wanted)
    rows = _thinned(key, place, len(targets))
    starts = np.searchsorted(rows, found.starts)
    return Sample(
        _features(found, rows, index, names),
        starts,
        np.searchsorted(rows, place),
        index.item_users[found.item[rows]],
        found.item[rows],
    )


def _thinned(key: Ints, kept: Ints, users: int) -> Ints:
    """Rows of about `_CANDIDATES` candidates a user, picked by a hash of the key; `kept` ones stay."""
    share = _CANDIDATES * users / max(len(key), 1)
    hashed = (key.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    stays = hashed < np.uint64(min(share, 1.0) * (1 << 24))
    stays[kept] = True
    return np.flatnonzero(stays)


def _features(found: Candidates, rows: Ints, index: ItemIndex, names: list[str]) -> NDArray[np.float32]:
    """Each channel's strength, each static feature and its root, of some candidates; (rows, features)."""
    statics = static_features(dict(index.arrays))
    columns = np.zeros((len(names) + 2 * len(statics), len(rows)), dtype=np.float32)
    for one, slot in zip(found.gathered, found.slots, strict=True):
        place = np.minimum(one.local, PLACES - 1)
        for name, decay in zip(one.source.channels(), one.source.decays, strict=True):
            if name in names:
                given = one.value * decay_table(decay)[place]
                columns[names.index(name)] = sums(slot, given, len(found.item))[rows]
    item = found.item[rows]
    for number, values in enumerate(statics.values()):
        column = len(names) + 2 * number
        columns[column] = values[item]
        columns[column + 1] = np.sqrt(np.maximum(values[item], 0.0))
    return np.ascontiguousarray(columns.T)


def _best_proven(sample: Sample, names: list[str], minimum: int) -> Fit:
    """The better of the default and the fitted weights among those that clearly beat popularity.

    Fitted ones are judged on users that they were not fitted on, and only where there are `minimum`.
    """
    plain = sample.features @ _weights_of(default_fusion(), names).astype(np.float32)
    popular = _places(sample, _by_popularity(sample, plain))
    rivals = {"default": _places(sample, plain)}
    if len(sample.target) >= minimum:
        rivals["fitted"] = _out_of_fold(sample)
    figures = {"users": float(len(sample.target))} | _figures("popularity", popular)
    for name, places in rivals.items():
        figures |= _figures(name, places)
    proven = [name for name, places in rivals.items() if clearly_better(places, popular)]
    if not proven:
        return Fit(None, figures)
    best = max(proven, key=lambda name: figures[f"ndcg_{name}"])
    return Fit(default_fusion() if best == "default" else _fitted(sample, names, plain), figures)


def _by_popularity(sample: Sample, plain: NDArray[np.float32]) -> Floats:
    """An order by number of users; the default score decides among equals."""
    most = float(np.max(np.abs(plain), initial=0.0))
    return sample.popularity + (0.4 * plain / most if most > 0 else 0.0)


def _figures(name: str, places: Floats) -> dict[str, float]:
    return {f"hit_rate_{name}": float(np.mean(places < _TOP)), f"ndcg_{name}": float(np.mean(_ndcg(places)))}


def clearly_better(places: Floats, others: Floats) -> bool:
    """Whether held-out items stand higher than in another order, by more than chance does.

    `places` (users,) count what stands before each user's item. The mean paired gain in NDCG has to
    exceed `_ERRORS` of its standard errors, and the hit rate must not be lower.
    """
    gain = _ndcg(places) - _ndcg(others)
    error = float(np.std(gain, ddof=1)) / math.sqrt(len(gain))
    return bool(np.mean(gain) > _ERRORS * error and np.mean(places < _TOP) >= np.mean(others < _TOP))


def _out_of_fold(sample: Sample) -> Floats:
    """The places that each half of the users gets by the weights of the other."""
    users = np.arange(len(sample.target))
    places = np.zeros(len(users))
    for fold in (0, 1):
        there, here = users[users % 2 != fold], users[users % 2 == fold]
        judged = _some(sample, here)
        weights = _learned(_some(sample, there))
        places[here] = _places(judged, judged.features @ weights.astype(np.float32))
    return places


def _fitted(sample: Sample, names: list[str], plain: NDArray[np.float32]) -> Fusion:
    """Weights fitted on all users of the sample."""
    weights = _learned(sample)
    default = default_fusion()
    statics = {
        name: (float(weights[column]), float(weights[column + 1]))
        for column, name in zip(range(len(names), len(weights), 2), STATICS, strict=True)
    }
    # What cannot be fitted keeps its size beside what is: a request must not fade in larger scores.
    usual = _best(sample, plain)
    score = sample.features @ weights.astype(np.float32)
    scale = max(1.0, _best(sample, score) / usual) if usual > 0 else 1.0
    channels = {name: scale * weight for name, weight in default.channels.items()}
    return Fusion(channels | dict(zip(names, weights.tolist(), strict=False)), statics)


def _learned(sample: Sample) -> Floats:
    """Weights of all features; 0 for those that are never there."""
    used = np.flatnonzero(sample.features.any(axis=0))
    weights = np.zeros(sample.features.shape[1])
    features = np.ascontiguousarray(sample.features[:, used])
    weights[used] = fit_softmax(features, sample.starts, sample.target)
    return weights


def _some(sample: Sample, users: Ints) -> Sample:
    """The part of a sample that is of some users, by ascending number."""
    sizes = np.diff(sample.starts)
    rows = np.flatnonzero(np.isin(np.repeat(np.arange(len(sizes)), sizes), users))
    starts = starts_of(sizes[users])
    target = sample.target[users] - sample.starts[:-1][users] + starts[:-1]
    return Sample(sample.features[rows], starts, target, sample.popularity[rows], sample.item[rows])


def _weights_of(fusion: Fusion, names: list[str]) -> Floats:
    """The weights of a fusion as one row of the features."""
    pairs = [weight for name in STATICS for weight in fusion.statics[name]]
    return np.array([*(fusion.channels[name] for name in names), *pairs])


def _best(sample: Sample, score: NDArray[np.floating]) -> float:
    """The mean over users of their best candidate's score."""
    return float(np.mean(np.maximum.reduceat(score, sample.starts[:-1])))


def _places(sample: Sample, score: NDArray[np.floating]) -> Floats:
    """How many candidates stand before each user's held-out item; of equals half do."""
    group = np.repeat(np.arange(len(sample.target)), np.diff(sample.starts))
    goal = score[sample.target][group]
    weights = (score > goal) + 0.5 * (score == goal)
    before = np.bincount(group, weights=weights, minlength=len(sample.target))
    return np.asarray(before - 0.5, dtype=np.float64)


def _ndcg(before: Floats) -> Floats:
    """NDCG of one relevant item that has so many before it: 1 / log2(2 + before) in the first ten, else 0."""
    gain: Floats = np.where(before < _TOP, 1.0 / np.log2(2.0 + before), 0.0)
    return gain
