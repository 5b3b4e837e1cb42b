"""Law 5 in closed form: what each piece of a user's evidence gives each item, in plain Python.

It knows nothing of batches, candidates, slots or the sources' code: it adds up what the index's
matrices say, times the weights that the index was fitted with.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np

from models.ranking.config import RankingConfig
from models.ranking.item_index import ItemIndex
from models.records import Micros
from models.views import Interaction, UserView

BY_ITEM = {
    "graph": "graph", "forward": "forward", "two_hops": "two_hops", "words": "words",
    "attributes": "attributes_near", "content": "content", "category": "category",
}  # fmt: skip
DISLIKED = {
    "disliked_words": "words", "disliked_attributes": "attributes_near", "disliked_content": "content",
}  # fmt: skip
SPOKEN = 5  # newest liked interactions whose own words count
HEAVIEST = 16  # words of a piece of evidence that count

Given = dict[int, float]  # item -> contribution


class Reference:
    """`given[evidence][item]` for evidence ("event", its newest id), ("topic", name)."""

    def __init__(self, view: UserView, index: ItemIndex, config: RankingConfig, clock: Micros) -> None:
        self._index = index
        self.given: dict[tuple[str, str], Given] = defaultdict(lambda: defaultdict(float))
        self._liked(view)
        self._disliked(view)
        self._queries(view, config, clock)
        self._profile(view)
        self._topics(view)

    def score(self, item: int) -> float:
        """The additive score of an item."""
        return float(self._index.static_score[item]) + sum(
            given.get(item, 0.0) for given in self.given.values()
        )

    def _curve(self, source: str, position: int) -> float:
        """The fitted weight of a source's evidence at a position: the sum of weight x decay^position."""
        channels = self._index.fusion.channels
        named = (name.split("@") for name in channels)
        return sum(
            channels[f"{name}@{decay}"] * float(decay) ** position for name, decay in named if name == source
        )

    def _row(self, matrix: str, row: int) -> Given:
        found = self._index.matrix(matrix)
        if found is None or row < 0:
            return {}
        begin, end = int(found.starts[row]), int(found.starts[row + 1])
        return dict(zip(found.items[begin:end].tolist(), found.values[begin:end].tolist(), strict=True))

    def _words(self, words: bytes) -> Given:
        """Items by their words: the heaviest by log(1 + tf) idf, of unit length, times the items' weights."""
        counts = Counter(np.frombuffer(words, "<u2").tolist())
        weights = {word: math.log1p(n) * float(self._index.idf[word]) for word, n in counts.items()}
        heaviest = sorted(weights, key=lambda word: (-weights[word], word))[:HEAVIEST]
        length = math.sqrt(sum(weights[word] ** 2 for word in heaviest))
        found: Given = defaultdict(float)
        for word in heaviest if length else ():
            for item, value in self._row("postings", word).items():
                found[item] += weights[word] / length * value
        return found

    def _add(self, evidence: tuple[str, str], given: Given, factor: float) -> None:
        for item, value in given.items():
            self.given[evidence][item] += factor * value

    def _newest(self, told: list[Interaction], most: int) -> list[tuple[int, Interaction]]:
        known = [one for one in told if one.strength > 0 and self._index.find(one.item_id) >= 0]
        return list(enumerate(reversed(known)))[:most]

    def _item_row(self, source: str, one: Interaction) -> int:
        item = self._index.find(one.item_id)
        return int(self._index.category[item]) if source == "category" else item

    def _liked(self, view: UserView) -> None:
        told = [one for one in view.interactions if one.liking > 0]
        for position, one in self._newest(told, self._index.history):
            evidence = ("event", one.event_ids[-1])
            for source, matrix in BY_ITEM.items():
                row = self._row(matrix, self._item_row(source, one))
                self._add(evidence, row, one.strength * self._curve(source, position))
            if position < SPOKEN:
                self._add(evidence, self._words(one.words), one.strength * self._curve("own_words", position))

    def _disliked(self, view: UserView) -> None:
        told = [one for one in view.interactions if one.liking < 0]
        for position, one in self._newest(told, self._index.history // 2):
            for source, matrix in DISLIKED.items():
                row = self._row(matrix, self._item_row(source, one))
                factor = -one.strength * one.liking * self._curve(source, position)
                self._add(("event", one.event_ids[-1]), row, factor)

    def _relative(
        self, source: str, parts: list[tuple[tuple[str, str], float, int, Given]], decay: float
    ) -> None:
        """Parts (evidence, weight, position, items): the best item gets the greatest weight."""
        total: Given = defaultdict(float)
        for _, weight, position, items in parts:
            for item, value in items.items():
                total[item] += weight * value * decay**position
        if total:
            scale = max(weight for _, weight, _, _ in parts) / max(total.values())
            for evidence, weight, position, items in parts:
                self._add(evidence, items, scale * weight * self._curve(source, position))

    def _queries(self, view: UserView, config: RankingConfig, clock: Micros) -> None:
        half_life = config.query_half_life_days * 86_400e6
        words, texts = [], []
        for position, asked in enumerate(reversed(view.queries[-config.queries :])):
            weight = 0.5 ** (max(clock - asked.time, 0) / half_life)
            evidence = ("event", asked.event_id)
            words.append((evidence, weight, position, self._words(asked.words)))
            row = self._index.find_text(asked.text_hash)
            texts.append((evidence, weight, position, self._row("query_texts", row)))
        self._relative("query_words", words, 0.6)
        self._relative("query_content", texts, 0.6)

    def _profile(self, view: UserView) -> None:
        words, names = [], []
        for position, said in enumerate(view.profile):
            evidence = ("event", said.event_id)
            words.append((evidence, 1.0, position, self._words(said.words)))
            row = self._index.find_attribute(said.value.strip().casefold())
            names.append((evidence, 1.0, position, self._row("attribute_postings", row)))
        self._relative("profile_words", words, 1.0)
        self._relative("profile_attributes", names, 1.0)

    def _topics(self, view: UserView) -> None:
        self._relative(
            "topics",
            [
                (("topic", name), affinity, position, self._row("topics", self._index.find_topic(name)))
                for position, (name, affinity) in enumerate(view.topics)
                if affinity > 0 and self._index.find_topic(name) >= 0
            ],
            1.0,
        )
