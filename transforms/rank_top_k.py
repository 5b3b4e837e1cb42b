"""RankTopK: from a user's state and the published index to the refreshed list."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import apache_beam as beam
from apache_beam import typehints
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.errors import DeploymentError
from models.lists import tombstone, top_k
from models.pane import MOST_TRIGGERS
from models.ranking.config import RankingConfig
from models.ranking.index import ItemIndex
from models.ranking.ranker import rank
from models.records import MICROS_PER_SECOND, Micros, TopK
from models.state import StateConfig, UserState
from models.times import wall_clock
from models.views import RatingStatistics, UserView, ViewPolicy, view_user
from transforms.index_archive import index_folder, published_folder
from transforms.live_store import live_store
from transforms.update_state import UserRefresh

_LOG: Final = logging.getLogger(__name__)
_BATCH: Final = 128


@dataclass
class RankTopK(beam.PTransform):
    """PCollection[UserRefresh] -> PCollection[TopK], one list per refresh.

    `index` is a one-element PCollection: the directory of the published index; `clock` one
    of microseconds, the ranking clock. With `history_window_seconds` each user gets one more
    list per window with feedback, from the events up to the window's end, marked as
    hindsight because the index has seen the rest.
    """

    index: beam.PCollection[str]
    clock: beam.PCollection[Micros]
    k: int = 10
    state: StateConfig = field(default_factory=StateConfig)
    policy: ViewPolicy = field(default_factory=ViewPolicy)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    history_window_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def expand(self, refreshes: beam.PCollection[UserRefresh]) -> beam.PCollection[TopK]:
        ranker = ListMaker(self.k, self.state, self.policy, self.ranking)
        # The shuffle keeps this step out of the stage that feeds the index it waits for: FnApiRunner
        # would fuse the two and then never run either.
        return (
            refreshes
            | "AwaitIndex" >> beam.Reshuffle()
            | "RankBatches"
            >> beam.ParDo(
                _RankBatches(ranker, self.history_window_seconds),
                beam.pvalue.AsSingleton(self.index),
                beam.pvalue.AsSingleton(self.clock),
            )
        )


class _Request(NamedTuple):
    refresh: UserRefresh
    state: UserState  # the refresh's own, or an earlier one
    clock: Micros
    window_end: Micros | None
    hindsight: bool


@dataclass
class ListMaker:
    """Makes lists from states: the pure step that a bounded run, an endless one and a replay share."""

    k: int
    state: StateConfig
    policy: ViewPolicy
    ranking: RankingConfig

    def make(self, requests: list[_Request], index: ItemIndex) -> list[TopK]:
        """The lists of the requests, in their order; none where no item is known, for nobody sees nothing."""
        by_clock: dict[Micros, list[int]] = defaultdict(list)
        for position, request in enumerate(requests):
            if not request.refresh.erased:
                by_clock[request.clock].append(position)
        made: dict[int, TopK] = {}
        for clock, positions in by_clock.items():
            views = [self._view(requests[position], index) for position in positions]
            for position, items in zip(
                positions, rank(views, index, self.ranking, clock, self.k), strict=True
            ):
                request = requests[position]
                made[position] = top_k(
                    request.refresh.user_id,
                    items,
                    request.state,
                    index.version,
                    request.refresh.triggers,
                    wall_clock(),
                    window_end=request.window_end,
                    hindsight=request.hindsight,
                )
        for position, request in enumerate(requests):
            if request.refresh.erased:
                made[position] = tombstone(
                    request.refresh.user_id,
                    request.state,
                    index.version,
                    request.refresh.triggers,
                    wall_clock(),
                )
        lists = [made[position] for position in range(len(requests))]
        return [one for one in lists if one.items or one.tombstone]

    def _view(self, request: _Request, index: ItemIndex) -> UserView:
        return view_user(
            request.refresh.user_id,
            request.state,
            self.policy,
            request.clock,
            self.state.ttl_micros,
            published_statistics(index),
        )


def published_statistics(index: ItemIndex) -> RatingStatistics | None:
    """What imputation falls back to; None while nobody has rated."""
    known = index.ratings
    if known.mean is None or known.median is None or known.mode is None:
        return None
    return RatingStatistics(known.mean, known.median, known.mode)


@typehints.with_output_types(TopK)
class _RankInBatches(beam.DoFn):
    """Ranks users by the batch: a list does not depend on its batch, only its cost does."""

    _index: ItemIndex

    def __init__(self, maker: ListMaker) -> None:
        self._maker = maker
        self._waiting: list[_Request] = []

    def start_bundle(self) -> None:
        self._waiting = []

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for made in self._made(at_least=1):
            yield GlobalWindows.windowed_value(made)

    def _made(self, at_least: int = _BATCH) -> list[TopK]:
        """The lists of all who wait, once there are enough of them."""
        if len(self._waiting) < at_least:
            return []
        requests, self._waiting = self._waiting, []
        return self._maker.make(requests, self._index)


class _RankBatches(_RankInBatches):
    """On the index and at the clock that the job hands in."""

    def __init__(self, maker: ListMaker, history_window_seconds: float | None) -> None:
        super().__init__(maker)
        self._history_seconds = history_window_seconds
        self._directory = ""

    def process(self, refresh: UserRefresh, index_directory: str, clock: Micros) -> Iterator[TopK]:
        if index_directory != self._directory:
            self._directory, self._index = index_directory, ItemIndex.open(index_folder(index_directory))
        if self._history_seconds is not None and not refresh.erased:
            self._waiting.extend(history_requests(refresh, self._history_seconds))
        self._waiting.append(_Request(refresh, refresh.state, clock, refresh.window_end, False))
        yield from self._made()


@dataclass
class RankLive(beam.PTransform):
    """PCollection[UserRefresh] -> PCollection[TopK] of an endless run.

    Polls the pointer under `index_root` at most every `poll_seconds` and swaps when it moves;
    the old index serves until the new one is verified, and a broken one is never used. The
    clock of a list is the later of the index's and the user's newest event, so that a list
    is a function of state and index alone.

    On an engine without time, `keep_in` is the run whose LiveStore names the users whose lists are
    to be made anew: those that had none, while the index knew no item, besides.
    """

    index_root: str
    k: int = 10
    state: StateConfig = field(default_factory=StateConfig)
    policy: ViewPolicy = field(default_factory=ViewPolicy)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    poll_seconds: float = 1.0
    keep_in: str = ""

    def expand(self, refreshes: beam.PCollection[UserRefresh]) -> beam.PCollection[TopK]:
        maker = ListMaker(self.k, self.state, self.policy, self.ranking)
        ranker = (
            _RankKept(maker, self.index_root, self.poll_seconds, self.keep_in)
            if self.keep_in
            else _RankNewest(maker, self.index_root, self.poll_seconds)
        )
        return refreshes | "RankNewest" >> beam.ParDo(ranker)


class _RankNewest(_RankInBatches):
    """On the newest index that is sound."""

    def __init__(self, maker: ListMaker, index_root: str, poll_seconds: float) -> None:
        super().__init__(maker)
        self._root = index_root
        self._poll_micros = int(poll_seconds * MICROS_PER_SECOND)
        self._polled: Micros | None = None
        self._refusal = ""  # why the index that is published does not serve

    def setup(self) -> None:
        self._index = open_published(self._root)

    def start_bundle(self) -> None:
        super().start_bundle()
        now = wall_clock()
        if self._polled is None or now - self._polled >= self._poll_micros or self._asked():
            self._polled = now
            self._swap()

    def _asked(self) -> bool:
        """Whether what is published counts now, however short a time ago it was looked at."""
        return False

    def _swap(self) -> None:
        before = self._index.version
        self._index, refusal = newer_index(self._root, self._index)
        if self._index.version != before:
            _LOG.info("the item index %s takes over from %s", self._index.version, before)
        if refusal and refusal != self._refusal:
            self._refused(refusal)
        self._refusal = refusal

    def _refused(self, why: str) -> None:
        beam.metrics.Metrics.counter("livelist", "index_refused").inc()
        _LOG.error("the published item index is refused, %s serves on: %s", self._index.version, why)

    def process(self, refresh: UserRefresh) -> Iterator[TopK]:
        newest = max(refresh.state.events)[0] if refresh.state.events else 0
        clock = max(self._index.clock, newest)
        self._waiting.append(_Request(refresh, refresh.state, clock, refresh.window_end, False))
        yield from self._made()


class _RankKept(_RankNewest):
    """The same, with the users of the process's own store whose lists are to be made anew."""

    def __init__(self, maker: ListMaker, index_root: str, poll_seconds: float, run_id: str) -> None:
        super().__init__(maker, index_root, poll_seconds)
        self._run_id = run_id

    def setup(self) -> None:
        super().setup()
        self._store = live_store(self._run_id)

    def _asked(self) -> bool:
        return bool(self._store.relist)

    def _refused(self, why: str) -> None:
        super()._refused(why)
        self._store.refusals.append(why)

    def process(self, refresh: UserRefresh) -> Iterator[TopK]:
        if not self._index.items and not refresh.erased:
            self._store.relist.add(refresh.user_id)
            return
        self._store.relist.discard(refresh.user_id)
        yield from super().process(refresh)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._index.items and self._store.relist:
            users, self._store.relist = sorted(self._store.relist), set()
            for user_id in users:
                for made in self._relisted(user_id):
                    yield GlobalWindows.windowed_value(made)
        yield from super().finish_bundle()

    def _relisted(self, user_id: str) -> Iterator[TopK]:
        encoded = self._store.states.get(user_id)
        state = UserState.decode(encoded) if encoded else UserState()
        if state.events:
            self._store.next_version(state)
            self._store.states[user_id] = state.encode()
            triggers = tuple(event_id for _, event_id in sorted(state.events)[-MOST_TRIGGERS:])
            yield from super().process(UserRefresh(user_id, state, triggers, None, False))


def open_published(root: str) -> ItemIndex:
    """The published index; raises DeploymentError where there is none."""
    directory = published_folder(root)
    if directory is None:
        raise DeploymentError(f"no item index is published under {root}/index; make one with `livelist run`")
    return ItemIndex.open(directory)


def newer_index(root: str, serving: ItemIndex) -> tuple[ItemIndex, str]:
    """The index that the pointer names; or the one that serves, and why the new one is not sound."""
    try:
        return open_published(root), ""
    except DeploymentError as error:
        return serving, str(error)


def history_requests(refresh: UserRefresh, window_seconds: float) -> list[_Request]:
    """One request per event-time window of the user, with the state of that window's end.

    Their versions stand below the final list's, oldest lowest.
    """
    size = int(window_seconds * MICROS_PER_SECOND)
    events = refresh.state.sorted_events()
    ends = sorted({event.event_time // size * size + size for event in events})
    requests = []
    for position, end in enumerate(ends):
        past = {event.slot: event for event in events if event.event_time < end}
        version = refresh.state.version - len(ends) + position
        state = UserState(past, refresh.state.erased_time, version, refresh.state.scored_time)
        requests.append(_Request(refresh, state, end, end, True))
    return requests
