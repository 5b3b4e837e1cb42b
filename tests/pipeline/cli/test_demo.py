"""The demo end to end, on a part of the sample: the words' effect is the job's, and nothing is staged."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from models.records import RankedItem
from pipeline.cli import demo_story
from pipeline.cli.demo_story import STORY, left_and_came
from pipeline.cli.main import main
from pipeline.sample import EVENTS, sample_bytes
from pipeline.tables.reader import read_latest

PEOPLE = tuple(said.user_id for said in STORY)


def part_of_the_sample(name: str) -> bytes:
    """The three people's lines, and a twentieth of everybody else's."""
    if name != EVENTS:
        return sample_bytes(name)
    lines = gzip.decompress(sample_bytes(name)).splitlines(keepends=True)
    named = [f'"user_id": "{user}"'.encode() for user in PEOPLE]
    kept = [line for at, line in enumerate(lines) if at % 3 == 0 or any(name in line for name in named)]
    return gzip.compress(b"".join(kept))


def test_the_demo_shows_what_words_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_story, "sample_bytes", part_of_the_sample)
    assert main(["demo", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{user} " in shown for user in PEOPLE)
    assert "The zipper broke after a day" in shown
    assert "read as polarity -0." in shown
    assert "It rested on the warm embroidered bomber jacket" in shown
    assert "Every record is accounted for" in shown
    assert "\x1b[" not in shown
    for user in PEOPLE:
        before = read_latest(str(tmp_path / "before"), user)
        after = read_latest(str(tmp_path / "after"), user)
        assert [item.item_id for item in before.items] != [item.item_id for item in after.items]
        assert f"words-{user}" in after.trigger_event_ids


def test_every_word_of_the_story_is_about_something_in_the_sample() -> None:
    sample = gzip.decompress(sample_bytes(EVENTS)).decode()
    for said in STORY:
        assert f'"user_id": "{said.user_id}"' in sample
        if said.item_id:
            bought = f'"user_id": "{said.user_id}", "kind": "purchase"'
            assert any(
                bought in line and f'"item_id": "{said.item_id}"' in line for line in sample.splitlines()
            )


def test_what_left_and_what_came_are_the_difference_of_two_lists() -> None:
    one, two, three = (RankedItem(rank, name, 1.0, ()) for rank, name in enumerate("abc", 1))
    assert left_and_came([one, two], [two, three]) == ([one], [three])
