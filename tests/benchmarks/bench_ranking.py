"""How long one list takes over many items, what approximate retrieval finds, how well lists predict.

    python -m tests.benchmarks.bench_ranking [--sizes 1000 100000] [--dense] [--sets mi gift movielens]

Lists: a made-up shop whose users have a taste and whose items have a category; times are CPU
milliseconds of this process, beside scoring the whole catalogue by one source, without reasons.
Dense: one request against int8 vectors of 384 dimensions (24 of them free), exact beside inverted lists.
Sets: HR@10 and NDCG@10 of leave-last-out on public histories in the folder LIVELIST_DATA, popularity
and item-kNN beside it. `--sizes 1000000` needs about 6 GB and some minutes to make the shop.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import platform
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.evaluation import evaluate_leave_last_out
from models.ranking.ann import InvertedLists
from models.ranking.config import DEFAULT_INDEX, DEFAULT_RANKING
from models.ranking.content import nearest_items
from models.ranking.index import learn_index
from models.ranking.item_index import ItemIndex
from models.ranking.log import encode_log, merge_logs
from models.ranking.ranker import rank
from models.records import Item
from models.text import word_ids
from models.views import Interaction, UserView

DATA = Path(os.environ.get("LIVELIST_DATA", "../shared/data"))
KINDS = (("view", 0.3, 0.5), ("click", 0.4, 0.5), ("purchase", 1.0, 0.5), ("dislike", 0.8, -0.7))
START = 1_600_000_000_000_000
SECOND = 1_000_000


def main() -> None:
    """Prints one block for lists, one for dense retrieval, one for the histories."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 100_000], help="numbers of items")
    parser.add_argument("--dense", action="store_true", help="also dense retrieval at each size")
    parser.add_argument("--sets", nargs="*", choices=sorted(SETS), default=["mi"], help="histories")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    for size in arguments.sizes:
        bench_lists(size)
    for size in arguments.sizes if arguments.dense else []:
        bench_dense(size)
    for name in arguments.sets:
        bench_history(name)


def shop(items: int, users: int, events: int, seed: int = 0) -> tuple[list[UserView], list[Item]]:
    """Users with one of 50 tastes; 60% of what they do is to their taste, the rest is popular."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, events)
    taste = rng.integers(0, 50, users)
    popular = np.minimum((rng.pareto(1.1, events) * items / 200).astype(np.int64), items - 1)
    item = np.where(rng.random(events) < 0.6, (popular * 50 + taste[user]) % items, popular)
    kind = rng.choice(len(KINDS), events, p=[0.5, 0.3, 0.17, 0.03])
    newest: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    for number, (one, what, how) in enumerate(zip(user.tolist(), item.tolist(), kind.tolist(), strict=True)):
        newest[one][what] = (number, how)
    views = [_shopper(one, told) for one, told in newest.items()]
    catalogue = [Item(f"i{n:07d}", f"Item {n}", category=f"category {n % 50}") for n in range(items)]
    return views, catalogue


def _shopper(user: int, told: dict[int, tuple[int, int]]) -> UserView:
    interactions = tuple(
        Interaction(
            f"i{item:07d}", (f"e{number:08d}",), START + number * SECOND, KINDS[how][0], KINDS[how][1],
            KINDS[how][2], False, None, None, b"", (),
        )
        for item, (number, how) in sorted(told.items(), key=lambda pair: pair[1])
    )  # fmt: skip
    return UserView(f"u{user:07d}", interactions, (), (), (), interactions[-1].time)


def bench_lists(items: int) -> None:
    """Builds a shop, then times one list at a time and batches of 128."""
    users = max(2_000, min(20_000, items // 5))
    views, catalogue = shop(items, users, users * 10)
    begin = time.process_time()
    index = learn_index(merge_logs([encode_log(views)]), catalogue)
    learned = time.process_time() - begin
    one = _cpu(lambda: [rank([view], index, DEFAULT_RANKING, START, 10) for view in views[:200]]) / 200
    batch = [views[begin : begin + 128] for begin in range(0, 1024, 128)]
    many = _cpu(lambda: [rank(some, index, DEFAULT_RANKING, START, 10) for some in batch]) / 1024
    dense = _cpu(lambda: any(_dense_list(view, index) < 0 for view in views[:20])) / 20
    print(
        f"{items:>9,} items: one list {one * 1e3:.2f} ms; in batches of 128 {1 / many:,.0f} lists/s; "
        f"whole catalogue densely {dense * 1e3:.2f} ms ({dense / one:.1f}x); "
        f"index of {users * 10:,} events in {learned:.1f} s"
    )


def _dense_list(view: UserView, index: ItemIndex) -> int:
    """An order by dense rows of one source over all items: the least that scoring everything costs."""
    graph = index.matrix("graph")
    assert graph is not None
    score = index.static_score.copy()
    for told in view.interactions[-20:]:
        row = np.zeros(index.items)
        _, items, values = graph.gather(np.array([index.find(told.item_id)]))
        row[items] = values
        score += row
    return int(np.lexsort((np.arange(index.items), -score))[0])


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds, the best of three."""
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def bench_dense(items: int, dimension: int = 384, queries: int = 100) -> None:
    """One request against all vectors: exact, and by inverted lists from `exact_items`."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(24, dimension)).astype(np.float32)
    vectors = np.empty((items, dimension), dtype=np.int8)
    for begin in range(0, items, 50_000):
        count = min(50_000, items - begin)
        rows = rng.normal(size=(count, 24)).astype(np.float32) @ spread
        vectors[begin : begin + count] = np.rint(127 * rows / np.linalg.norm(rows, axis=1, keepdims=True))
    asked = vectors[rng.integers(0, items, queries)]
    exact = nearest_items(asked, vectors, 100, False, exact_items=items)
    slow = _cpu(lambda: nearest_items(asked[:1], vectors, 100, False, exact_items=items))
    if items <= DEFAULT_INDEX.exact_items:
        print(f"{items:>9,} vectors: exact {slow * 1e3:.2f} ms a request, recall@100 1")
        return
    begin_time = time.process_time()
    lists = InvertedLists.build(vectors)
    built = time.process_time() - begin_time
    found = lists.search(asked, 100)
    fast = _cpu(lambda: [lists.search(asked[row : row + 1], 100) for row in range(10)]) / 10
    hits = sum(
        len(np.intersect1d(_items(exact, row), _items(found, row), assume_unique=True))
        for row in range(queries)
    )
    print(
        f"{items:>9,} vectors: inverted lists {fast * 1e3:.2f} ms a request, "
        f"recall@100 {hits / queries / 100:.3f}, "
        f"built in {built:.0f} s; exact {slow * 1e3:.1f} ms ({slow / fast:.0f}x)"
    )


def _items(near, row: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:  # type: ignore[no-untyped-def]
    found: np.ndarray[tuple[int], np.dtype[np.int32]] = near.items[near.starts[row] : near.starts[row + 1]]
    return found


def bench_history(name: str) -> None:
    """Leave-last-out, strict and plus, of one public history."""
    try:
        views, items = SETS[name]()
    except FileNotFoundError as error:
        print(f"{name}: left out, {error.filename} is not there (set LIVELIST_DATA)")
        return
    for learn in ("strict", "plus"):
        begin = time.process_time()
        report = evaluate_leave_last_out(views, items, (), "strict" if learn == "strict" else "plus")
        shown = ", ".join(f"{row.name} {row.hit_rate:.4f}/{row.ndcg:.4f}" for row in report.rows)
        seconds = time.process_time() - begin
        print(f"{name} {learn}: HR@10/NDCG@10 {shown}; {report.users:,} users, {seconds:.0f} s")


class Told(NamedTuple):
    """One line of a history."""

    user: str
    item: str
    time: int  # seconds
    rating: float | None
    text: str


def views_of(lines: Iterable[Told]) -> list[UserView]:
    """Views by the value model: stars on 1 to 5 say how it was liked, else a mild prior."""
    by_user: dict[str, dict[str, list[tuple[int, str, Told]]]] = defaultdict(lambda: defaultdict(list))
    for number, line in enumerate(lines):
        by_user[line.user][line.item].append((line.time, f"line:{number:010d}", line))
    return [_view(user, told) for user, told in by_user.items()]


def _view(user: str, told: dict[str, list[tuple[int, str, Told]]]) -> UserView:
    interactions = []
    for item, lines in told.items():
        lines.sort(key=lambda line: line[:2])
        when, _, newest = lines[-1]
        liking = 0.5 if newest.rating is None else (0.25 * 0.5 + (newest.rating - 3) / 2) / 1.25
        words = b"".join(word_ids(line.text).tobytes() for _, _, line in lines if line.text)
        ids = tuple(event for _, event, _ in lines)
        interactions.append(
            Interaction(
                item, ids, when * SECOND, "review", 1.0, liking, False, newest.rating, None, words, ()
            )
        )
    interactions.sort(key=lambda one: (one.time, one.event_ids[-1]))
    return UserView(user, tuple(interactions), (), (), (), interactions[-1].time)


Loaded = tuple[list[UserView], list[Item]]


def _instruments() -> Loaded:
    path = DATA / "amazon_musical_instruments_5core_2014" / "Musical_instruments_reviews.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    return views_of(_review(row["reviewerID"], row) for row in rows), []


def _gift_cards() -> Loaded:
    folder = DATA / "amazon_gift_cards_5core_2018"
    with gzip.open(folder / "Gift_Cards_5.json.gz", "rt") as file:
        views = views_of(_review(row["reviewerID"], row) for row in map(json.loads, file))
    with gzip.open(folder / "meta_Gift_Cards.json.gz", "rt") as file:
        rows = {row["asin"]: row for row in map(json.loads, file)}
    return views, [
        Item(asin, row.get("title") or "", str(row.get("description") or "")) for asin, row in rows.items()
    ]


def _review(user: str, row: dict[str, str]) -> Told:
    text = f"{row.get('summary') or ''}. {row.get('reviewText') or ''}"
    return Told(user, row["asin"], int(row["unixReviewTime"]), float(row["overall"]), text)


def _movielens() -> Loaded:
    folder = DATA / "movielens_100k"
    with (folder / "ml-100k.inter").open() as file:
        rows = [line.split("\t") for line in list(file)[1:]]
    with (folder / "ml-100k.item").open() as file:
        films = [line.rstrip("\n").split("\t") for line in list(file)[1:]]
    views = views_of(
        Told(user, item, int(float(when)), float(rating), "") for user, item, rating, when in rows
    )
    return views, [Item(film, title, tags=tuple(genres.split())) for film, title, _, genres in films]


def _sequences(name: str) -> Callable[[], Loaded]:
    def load() -> Loaded:
        folder = DATA / "s3rec_sequences"
        with (folder / f"{name}.txt").open() as file:
            lines = [line.split() for line in file]
        views = views_of(
            Told(user, item, START // SECOND + place, None, "")
            for user, *items in lines
            for place, item in enumerate(items)
        )
        attributes = json.loads((folder / f"{name}_item2attributes.json").read_text())
        return views, [Item(item, tags=tuple(f"a{one}" for one in tags)) for item, tags in attributes.items()]

    return load


SETS: dict[str, Callable[[], Loaded]] = {
    "mi": _instruments,
    "gift": _gift_cards,
    "movielens": _movielens,
    "beauty": _sequences("Beauty"),
    "sports": _sequences("Sports_and_Outdoors"),
}

if __name__ == "__main__":
    main()
