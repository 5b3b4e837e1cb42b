"""The guess is right where a wrong one would let the model speak of what it cannot read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.language import UNDETERMINED, detect_language, guess_language


@pytest.mark.parametrize(
    "text",
    [
        "the zipper broke after a day",
        "excellent, arrived quickly",
        "Waste of money",
        "great",
        "LOVE IT!!!",
        "It's a café-style table, très chic",
        "Don’t buy",
        "Naïve me, I thought this would fit",
    ],
)
def test_english_is_recognised_even_in_two_words(text: str) -> None:
    assert detect_language(text) == "en"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("质量很差，第一天就坏了", "zh"),
        ("屏幕很好 but battery 不行，不推荐购买", "zh"),
        ("とても良い商品です", "ja"),
        ("정말 좋아요", "ko"),
        ("Молния сломалась через день", "ru"),
        ("السحاب انكسر بعد يوم", "ar"),
        ("Der Reißverschluss ist nach einem Tag kaputt gegangen", "de"),
        ("La cremallera se rompió después de un día", "es"),
        ("La fermeture est cassée après une journée", "fr"),
        ("A qualidade não é boa, não recomendo", "pt"),
        ("La cerniera si è rotta dopo un giorno", "it"),
        ("De rits is na een dag kapot", "nl"),
    ],
)
def test_other_languages_are_told_apart(text: str, language: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Miserabel verarbeitet", "de"),
        ("Passt perfekt", "de"),
        ("Finger weg!", "de"),
        ("Arnaque totale", "fr"),
        ("Nul", "fr"),
        ("No funciona", "es"),
        ("Estoy contento", "es"),
        ("Horrible experiencia", "es"),
        ("最悪です", "ja"),
        ("별로예요", "ko"),
        ("منتج سيء", "ar"),
        ("Ужасно", "ru"),
        ("很好", "zh"),
        ("质量 OK", "zh"),
        ("I really love my 小米", "en"),
        ("Worked great", "en"),
        ("Terrible", "en"),
        ("not worth it", "en"),
        ("Horrible experience", "en"),
        ("Excellent product", "en"),
    ],
)
def test_two_words_are_enough(text: str, language: str) -> None:
    assert detect_language(text) == language


def test_english_for_want_of_evidence_is_not_sure() -> None:
    assert guess_language("Ibanez Gibson Fender") == ("en", False)
    assert guess_language("worked great") == ("en", True)


@pytest.mark.parametrize("text", ["", "   ", "12345 !!!", "😀😀", "\u0000"])
def test_a_text_without_letters_is_undetermined(text: str) -> None:
    assert detect_language(text) == UNDETERMINED


@given(st.text())
def test_every_text_has_an_answer(text: str) -> None:
    assert detect_language(text).isalpha()
