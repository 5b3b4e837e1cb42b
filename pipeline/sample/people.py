"""Simulated people: tastes that shape what they look at, buy, praise and ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from pipeline.sample.catalogue import Article, Review
from pipeline.sample.vocabulary import NAMES

#: Taste -> classes it shops, words it looks for, what it asks for.
TASTES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "cosy": (
        "Sweaters,Fine gauge,Outerwear,Lounge,Legwear",
        "cosy warm wool cashmere mohair fleece hooded oversized brown ivory",
        (
            "looking for a warm sweater for winter",
            "something soft and cosy to wear at home",
            "a wool cardigan that does not itch",
            "I need a warm coat with a hood",
        ),
    ),
    "office": (
        "Blouses,Skirts,Pants,Jackets,Fine gauge",
        "work black navy striped slim grey white silk tweed ponte",
        (
            "a blazer I can wear to the office",
            "smart trousers for work that fit true to size",
            "a silk blouse that is not see-through",
            "a pencil skirt in black or navy",
        ),
    ),
    "romantic": (
        "Dresses,Blouses,Skirts,Sleep",
        "floral lace silk chiffon ruffled pink coral embroidered sheer vintage",
        (
            "a floral dress for a garden wedding",
            "a lace blouse, feminine but not too short",
            "I want a flowing maxi dress",
        ),
    ),
    "summer": (
        "Dresses,Shorts,Swim,Knits",
        "summer beach linen cotton yellow white coral printed striped orange",
        (
            "a light linen dress for the beach",
            "shorts for hot days that are long enough",
            "a swimsuit that stays in place",
            "a cool cotton top for summer",
        ),
    ),
    "boho": (
        "Dresses,Blouses,Knits,Jackets",
        "boho embroidered fringed crochet paisley suede printed beaded tie-dye eyelet",
        (
            "a boho tunic with embroidery",
            "a loose kimono to wear over a tank",
            "something embroidered to go with jeans",
        ),
    ),
    "denim": (
        "Jeans,Jackets,Knits,Shorts,Pants",
        "denim blue cropped plaid olive leather slim high-waisted striped green",
        (
            "high-waisted jeans that do not stretch out",
            "a denim jacket that goes with everything",
            "a soft tee for every day",
        ),
    ),
    "party": (
        "Dresses,Skirts,Pants,Blouses,Jackets",
        "party velvet metallic beaded black red satin burgundy lace sheer tulle",
        (
            "a black dress for a party",
            "something with sparkle for New Year's Eve",
            "a velvet jacket or dress for the holidays",
        ),
    ),
    "lounge": (
        "Lounge,Sleep,Layering,Legwear,Knits",
        "lounging cosy warm cotton reversible grey blue oversized hooded pink",
        (
            "comfortable leggings for the weekend",
            "a robe that is warm but light",
            "pyjamas made of cotton",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Person:
    """One simulated user: a main taste, a second one, a body and a temper."""

    user_id: str
    taste: str
    second: str
    size: str
    harshness: float  # stars taken off, may be negative
    activity: float  # mean number of visits


def simulate_people(count: int, random: Random) -> list[Person]:
    """`count` people with readable, unique ids."""
    tastes = sorted(TASTES)
    people = []
    for number in range(count):
        taste, second = random.sample(tastes, 2)
        user_id = f"{NAMES[number % len(NAMES)]}-{number // len(NAMES) + 1:02d}"
        size = random.choice(("petite", "regular", "regular", "tall"))
        people.append(
            Person(user_id, taste, second, size, random.gauss(0, 0.5), random.lognormvariate(0.9, 0.6))
        )
    return people


class Shelf:
    """What there is to look at, and the real reviews that have not been given to anyone yet."""

    def __init__(self, articles: Sequence[Article], random: Random) -> None:
        self.articles = list(articles)
        self._random = random
        self._left = {article.item_id: list(article.reviews) for article in articles}
        self._appeal = {taste: [_appeal(article, taste) for article in articles] for taste in TASTES}

    def weights(self, person: Person, taste: str) -> list[float]:
        """How much each article draws a person in the mood of a taste, with a fancy of her own."""
        fancy = Random(person.user_id)
        return [appeal * fancy.lognormvariate(0, 0.4) for appeal in self._appeal[taste]]

    def fit(self, person: Person, article: Article) -> float:
        """How well an article suits a person's tastes, about [0, 3]."""
        index = self.articles.index(article)
        return math.log1p(self._appeal[person.taste][index] + 0.35 * self._appeal[person.second][index])

    def take_review(self, article: Article, stars: float) -> Review | None:
        """A real review of the article, as near as can be had to the stars; each is taken once."""
        left = self._left[article.item_id]
        if not left:
            return None
        review = min(left, key=lambda review: (abs(review.rating - stars), self._random.random()))
        left.remove(review)
        return review


def _appeal(article: Article, taste: str) -> float:
    classes, words, _ = TASTES[taste]
    shopped = 1.0 if article.category in classes.split(",") else 0.02
    matches = min(3, len(set(words.split()) & set(article.tags)))
    return shopped * (0.15 + matches) ** 2 * len(article.reviews) ** 0.05


def requests_of(person: Person) -> tuple[str, ...]:
    """What a person may ask for in words."""
    requests: Mapping[str, tuple[str, str, tuple[str, ...]]] = TASTES
    return requests[person.taste][2]
