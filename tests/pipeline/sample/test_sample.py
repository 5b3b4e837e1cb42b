"""The shipped sample: small, readable, rebuilt by its script, and flawed on purpose."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from models.records import KINDS
from pipeline.sample import EVENTS, ITEMS, sample_bytes
from pipeline.sample.build import item_line, simulate
from pipeline.sample.catalogue import build_catalogue, read_reviews

REVIEWS = "womens_clothing_reviews/Womens Clothing E-Commerce Reviews.csv.zip"


def lines(name: str) -> list[str]:
    return gzip.decompress(sample_bytes(name)).decode().splitlines()


def objects(name: str) -> list[dict[str, object]]:
    found = []
    for line in lines(name):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def test_the_sample_is_small_in_the_repository() -> None:
    assert len(sample_bytes(EVENTS)) + len(sample_bytes(ITEMS)) < 1_500_000


def test_every_title_is_there_once() -> None:
    titles = [item["title"] for item in objects(ITEMS)]
    assert all(titles)
    assert len(set(map(str, titles))) == len(titles) > 200


def test_the_stream_has_every_kind_of_flaw() -> None:
    events = objects(EVENTS)
    ids = Counter(event.get("event_id") for event in events)
    kinds = Counter(str(event.get("kind")) for event in events)
    assert len(lines(EVENTS)) > len(events)
    assert max(ids.values()) > 1
    assert any(event.get("revision") for event in events)
    assert kinds["retract"] and kinds["erase"] and kinds["query"] and kinds["profile"]
    assert kinds.keys() - KINDS == {"veiw"}


def test_the_shipped_files_are_what_the_script_makes() -> None:
    data = Path(os.environ.get("LIVELIST_DATA", Path(__file__).parents[4] / "shared" / "data")) / REVIEWS
    if not data.exists():
        pytest.skip("the clothing reviews are not in LIVELIST_DATA")
    random = Random(2_024)
    articles = build_catalogue(read_reviews(data), random)
    assert simulate(articles, 470, 1_300, random) == lines(EVENTS)
    assert [item_line(article) for article in articles] == objects(ITEMS)
