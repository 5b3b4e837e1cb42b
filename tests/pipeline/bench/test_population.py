"""The simulated population: every event is valid, popular ones are popular, the rate is kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from models.records import FeedbackEvent
from pipeline.bench.population import Population, append_at_rate, shop_items
from pipeline.inputs.reading import read_feedback


def test_every_line_is_accepted_and_a_seed_gives_one_sequence(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    population = Population(50, 20, 0.5)
    log.write_bytes(b"".join(population.line() for _ in range(300)))
    events = [event for event in read_feedback([str(log)]) if isinstance(event, FeedbackEvent)]
    assert len(events) == 300
    again = Population(50, 20, 0.5)
    assert [event.user_id for event in events] == [again.event()["user_id"] for _ in range(300)]
    assert 100 < sum(event.text is not None for event in events) < 200


def test_few_users_give_most_of_the_feedback() -> None:
    population = Population(1_000, 1_000, 0.0)
    users = Counter(population.event()["user_id"] for _ in range(4_000))
    assert sum(count for _, count in users.most_common(50)) > 2_000


def test_a_rate_brings_its_number_of_lines_however_busy_the_machine_is(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert append_at_rate(Population(), log, 300, 0.5) == 150
    assert len(log.read_text().splitlines()) == 150


def test_the_shop_of_the_demo_is_the_samples() -> None:
    assert len(shop_items()) > 100
