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


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Produs foarte prost", "ro"),
        ("Nu va recomand produsul", "ro"),
        ("Nekupujte to", "cs"),
        ("Velmi spatna kvalita", "cs"),
        ("Nagyon rossz a minoseg", "hu"),
        ("Ang ganda ng damit", "tl"),
        ("Hindi maganda, nasira agad", "tl"),
        ("Yeh bilkul bekar hai", "hi"),
        ("Mujhe bahut accha laga", "hi"),
        ("Erittain huono laatu", "fi"),
        ("Meget darlig kvalitet, kan ikke anbefales", "da"),
        ("khong nen mua", "vi"),
        ("feichang hao", UNDETERMINED),
        ("zhiliang hen cha", UNDETERMINED),
    ],
)
def test_languages_are_known_by_few_words_without_their_accents(text: str, language: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize(
    "text", ["唔好買", "呢件衫好靚，我好鍾意嘅", "質量好差，用咗一日就壞咗", "佢哋嘅服務冇得頂"]
)
def test_cantonese_is_not_mandarin(text: str) -> None:
    assert detect_language(text) == "yue"


@pytest.mark.parametrize(
    "text",
    [
        "唔，味道还可以",
        "質量很好，下次再買",
        "他说了一句“冇问题”，" + "这本书的其余部分都是用普通话写的，很好读。" * 4,
    ],
)
def test_a_sigh_or_a_quotation_makes_no_cantonese(text: str) -> None:
    assert detect_language(text) == "zh"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("http://example.com", UNDETERMINED),
        ("www.bom.com/no-recomendo", UNDETERMINED),
        ("bom.com.br", UNDETERMINED),
        ("@muito_bom", UNDETERMINED),
        ("[email]", UNDETERMINED),
        ("质量很差 https://a.example/very-very-long-path-of-latin-letters", "zh"),
        ("减肥必备@哈哈，很好", "zh"),
        ("Broken @com_el see la.com", "en"),
    ],
)
def test_addresses_have_no_say(text: str, language: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize("text", ["Stunning 😍", "Super!", "Come on", "sports bra", "Oh la la", "Yup. 82°!!"])
def test_no_sign_and_no_word_that_english_shares_speaks_against_it(text: str) -> None:
    assert detect_language(text) == "en"


def test_english_for_want_of_evidence_is_not_sure() -> None:
    assert guess_language("Ibanez Gibson Fender") == ("en", False)
    assert guess_language("a Ibanez Gibson Fender Telecaster") == ("en", False)
    assert guess_language("worked great") == ("en", True)


@pytest.mark.parametrize("text", ["", "   ", "12345 !!!", "😀😀", "\u0000"])
def test_a_text_without_letters_is_undetermined(text: str) -> None:
    assert detect_language(text) == UNDETERMINED


@given(st.text())
def test_every_text_has_an_answer(text: str) -> None:
    assert detect_language(text).isalpha()
