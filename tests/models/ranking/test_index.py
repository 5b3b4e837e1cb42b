"""The index is a function of the set of events: learned, stored, published, verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DeploymentError
from models.ranking.config import DEFAULT_INDEX, DEFAULT_RANKING, IndexConfig
from models.ranking.index import ItemIndex, build_index, publish_index, read_pointer
from models.ranking.log import encode_log
from models.ranking.ranker import rank
from models.records import Item
from tests.models.ranking.worlds import interaction, learn, random_items, random_vectors, random_views, view


@settings(deadline=None, max_examples=4)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_partitions_and_orders_do_not_change_a_byte_of_the_index(tmp_path_factory, seed, random):  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("index")
    views, items = random_views(seed, users=120, items=25), random_items(seed, 30)
    vectors = random_vectors(views, seed)
    one = build_index([encode_log(views)], items, vectors, DEFAULT_INDEX, None, folder / "one")
    shuffled = random.sample(views, len(views))
    other = build_index(
        [encode_log(shuffled[part::3]) for part in range(3)],
        random.sample(items, len(items)),
        random.sample(vectors, len(vectors)),
        DEFAULT_INDEX, None, folder / "other",
    )  # fmt: skip
    assert one.files == other.files
    assert one.version == other.version
    assert one.meta["fusion"]["figures"]["users"] >= DEFAULT_INDEX.fit_minimum


def test_a_published_index_ranks_as_the_one_in_memory(tmp_path: Path) -> None:
    views, items = random_views(3), random_items(3)
    assert read_pointer(tmp_path) is None
    build_index([encode_log(views)], items, [], DEFAULT_INDEX, None, tmp_path / "build")
    home = publish_index(tmp_path, tmp_path / "build")
    assert read_pointer(tmp_path) == home
    assert not (tmp_path / "build").exists()
    stored, learned = ItemIndex.open(home), learn(views, items)
    assert ItemIndex.open(home) is stored
    assert stored.version == home.name
    assert rank(views, stored, DEFAULT_RANKING, 0, 5) == rank(views, learned, DEFAULT_RANKING, 0, 5)


def test_publishing_the_same_again_keeps_the_version(tmp_path: Path) -> None:
    blobs = [encode_log(random_views(4))]
    homes = set()
    for name in ("first", "second"):
        build_index(blobs, [], [], DEFAULT_INDEX, None, tmp_path / name)
        homes.add(publish_index(tmp_path, tmp_path / name))
    assert len(homes) == 1
    assert sorted(entry.name for entry in (tmp_path / "index").iterdir()) == sorted(
        ["CURRENT", homes.pop().name]
    )


def test_the_index_that_served_before_stays_and_older_ones_go(tmp_path: Path) -> None:
    homes = []
    for seed in range(4):
        build_index([encode_log(random_views(seed))], [], [], DEFAULT_INDEX, None, tmp_path / "build")
        homes.append(publish_index(tmp_path, tmp_path / "build"))
    kept = {entry.name for entry in (tmp_path / "index").iterdir()}
    assert kept == {"CURRENT", homes[-1].name, homes[-2].name}
    assert read_pointer(tmp_path) == homes[-1]


def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    build_index([encode_log(random_views(5))], [], [], DEFAULT_INDEX, None, tmp_path / "build")
    damaged = tmp_path / "build" / "popularity.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(DeploymentError, match=r"popularity\.npy is not what the manifest says; build"):
        ItemIndex.open(tmp_path / "build")
    with pytest.raises(DeploymentError, match="no item index in"):
        ItemIndex.open(tmp_path / "nowhere")


def test_items_are_the_catalogue_and_what_feedback_mentions() -> None:
    only_shown = replace(view("v"), mentioned=("shown",))
    index = learn([view("u", (interaction("mentioned", 1),)), only_shown], [Item("cold", title="New")])
    assert [index.item_ids[item] for item in range(index.items)] == ["cold", "mentioned", "shown"]
    assert index.arrays["users"].tolist() == [0, 1, 0]
    assert index.find("nowhere") == -1
    assert index.title("cold") == "New"
    assert index.title("mentioned") == "mentioned"


def test_a_disliked_interaction_adds_no_popularity_and_lowers_quality() -> None:
    views = [view(f"u{n}", (interaction("good", n, 0.9), interaction("bad", n + 50, -0.7))) for n in range(5)]
    index = learn(views)
    good, bad = index.find("good"), index.find("bad")
    assert index.popularity[good] == 5
    assert index.popularity[bad] == 0
    assert index.arrays["quality"][good] > 0 > index.arrays["quality"][bad]


def test_rating_statistics_are_those_of_the_log() -> None:
    views = [view("u", (interaction("a", 1, 1.0), interaction("b", 2, 1.0), interaction("c", 3, -1.0)))]
    index = learn(views)
    assert index.ratings.count == 3
    assert index.ratings.mean == pytest.approx(11 / 3)
    assert index.ratings.median == 5.0
    assert index.ratings.mode == 5.0
    assert index.ratings.sd == pytest.approx(np.std([5, 5, 1]))
    assert index.mean_rating("c") == 1.0
    assert index.mean_rating("nowhere") is None


def test_an_index_of_nothing_can_be_built() -> None:
    index = learn([])
    assert index.items == 0
    assert rank([view("u")], index, DEFAULT_RANKING, 0, 3) == [()]


def test_where_nothing_goes_together_the_fit_is_not_below_popularity() -> None:
    rng = np.random.default_rng(0)
    share = 1.0 / np.arange(1, 101)
    views = [
        view(f"u{user:03d}", tuple(
            interaction(f"i{item:03d}", user * 10 + place)
            for place, item in enumerate(rng.choice(100, 5, replace=False, p=share / share.sum()))
        ))
        for user in range(300)
    ]  # fmt: skip
    fusion = learn(views).fusion
    assert fusion.by_popularity
    assert fusion.figures["hit_rate_popularity"] > 0.2


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        IndexConfig(neighbours=0)
