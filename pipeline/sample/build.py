"""Rebuild the shipped sample from the CC0 women's clothing reviews.

    python -m pipeline.sample.build --reviews "Womens Clothing E-Commerce Reviews.csv.zip"

The same zip and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from random import Random

from pipeline.sample import EVENTS, ITEMS
from pipeline.sample.catalogue import Article, build_catalogue, read_reviews
from pipeline.sample.people import Shelf, simulate_people
from pipeline.sample.scenes import write_flaws, write_leading_people
from pipeline.sample.visits import BEGIN, Diary, Line, rfc3339, simulate_visits


def main() -> None:
    """Build both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reviews", type=Path, required=True, help="the data set's zip, as Kaggle ships it")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder (default: the package)"
    )
    parser.add_argument("--users", type=int, default=470, help="simulated users (default: 470)")
    parser.add_argument(
        "--texts", type=int, default=1_300, help="reviews with words, at most (default: 1300)"
    )
    parser.add_argument("--seed", type=int, default=2_024, help="of everything simulated (default: 2024)")
    args = parser.parse_args()
    random = Random(args.seed)
    articles = build_catalogue(read_reviews(args.reviews), random)
    lines = simulate(articles, args.users, args.texts, random)
    write_gzip(
        args.output / ITEMS, (json.dumps(item_line(article), ensure_ascii=False) for article in articles)
    )
    write_gzip(args.output / EVENTS, lines)
    print(f"{len(articles)} items, {len(lines)} lines of events in {args.output}")


def simulate(articles: list[Article], users: int, texts: int, random: Random) -> list[str]:
    """The lines of the event stream, nearly in order of time, with a stream's usual flaws."""
    diary = Diary(random, Shelf(articles, random), texts)
    write_leading_people(diary)
    for person in simulate_people(users, random):
        simulate_visits(person, diary)
    delayed = [
        (time + (random.uniform(0, 7_200) if random.random() < 0.03 else 0), line)
        for time, line in diary.lines
    ]
    lines = [json.dumps(line, ensure_ascii=False) for _, line in sorted(delayed, key=lambda pair: pair[0])]
    return write_flaws(lines, diary)


def item_line(article: Article) -> Line:
    """An article as a line of items.jsonl."""
    return {
        "item_id": article.item_id,
        "title": article.title,
        "category": article.category,
        "tags": list(article.tags),
        "price": article.price,
        "published_at": rfc3339(BEGIN - 86_400 * (30 + int(article.item_id) % 300)),
        "available": int(article.item_id) % 47 != 0,
    }


def write_gzip(path: Path, lines: Iterable[str]) -> None:
    """Write lines with neither time nor name in the header, so that equal lines give equal bytes."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
        for line in lines:
            zipped.write(f"{line}\n".encode())


if __name__ == "__main__":
    main()
