"""What the model that ships must say, in English and Chinese, whatever it was measured on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from models.encoder.artefact import DEFAULT_MODEL_PATH, load_artefact
from models.encoder.ngrams import describe_ngrams
from models.encoder.scorer import TextScorer
from models.records import ScoredText, TextScore

MOST_BYTES = 32_000_000

POSITIVE = (
    "could not be happier", "I couldn't be happier with this purchase", "I love it",
    "no complaints at all", "never had a problem with it", "not disappointed, would buy again",
    "The room was clean and the staff friendly.",
    "质量很好", "不错", "物超所值，强烈推荐",
    "房间很干净，服务员很热情，下次还会住",
    "这部电影非常好看，值得一看",
    "这个product很nice，推荐", "質量很好，非常滿意",
    "The room was spotless", "导演把握得很好，演员情绪到位，值得二刷",
)  # fmt: skip
NEGATIVE = (
    "never again", "not good", "not worth the money", "The zipper broke after a day.",
    "would not recommend it",
    "I expected much better", "The room was dirty and the staff rude.", "it does not work",
    "太差了", "再也不来了", "不推荐", "不是很满意", "没有想象中那么好",
    "酒店位置偏，隔音太差，早餐也不好吃",
    "电影很无聊，看到一半就睡着了", "quality 太差，不会再买",
)  # fmt: skip
NEAR_NEUTRAL = (
    "looking for a warm wool coat", "does it come in blue?", "when will my order arrive?",
    "I bought two of them",
    "想买一件厚外套", "什么时候发货？",
    "请问这个可以用支付宝付款吗", "今天能送到朝阳区吗？", "有没有适合油性皮肤的？",
)  # fmt: skip
UNKNOWN = (
    "очень плохо, не покупайте", "とても良いです", "매우 좋아요", "das ist leider sehr schlecht",
    "Produs foarte prost", "Nagyon rossz minoseg", "Ang ganda ng produkto", "feichang hao", "唔好買",
    "Caighdean uafasach, bhris se tar eis lae", "Umkhiqizo omubi kakhulu",
)  # fmt: skip
EMOJI = {"Terrible 😡": -1, "love it 😍": 1, "差 😡": -1, "很好 👍👍": 1, "Stunning ❤️": 1}


@pytest.fixture(scope="module")
def scorer() -> TextScorer:
    return TextScorer(threads=1)


def _scores(scorer: TextScorer, texts: Sequence[str]) -> dict[str, TextScore]:
    results, _ = scorer.score_batch(texts)
    scored = [result for result in results if isinstance(result, ScoredText)]
    assert len(scored) == len(texts)
    return {text: result.score for text, result in zip(texts, scored, strict=True)}


def test_it_is_small_and_says_what_it_reads() -> None:
    artefact = load_artefact(DEFAULT_MODEL_PATH)
    assert artefact.size <= MOST_BYTES
    assert artefact.languages == {"en", "zh"}
    ngrams = artefact.contract.ngrams
    assert ngrams is not None
    assert describe_ngrams(ngrams.buckets)["algorithm"] == ngrams.algorithm


def test_praise_is_positive_and_blame_negative(scorer: TextScorer) -> None:
    scores = _scores(scorer, (*POSITIVE, *NEGATIVE))
    assert [text for text in POSITIVE if scores[text].polarity < 0.2] == []
    assert [text for text in NEGATIVE if scores[text].polarity > -0.2] == []


def test_not_bad_is_not_bad(scorer: TextScorer) -> None:
    scores = _scores(scorer, ("not bad", "bad", "不差", "很差"))
    assert scores["not bad"].polarity > 0 > scores["bad"].polarity
    assert scores["不差"].polarity > 0 > scores["很差"].polarity


def test_who_asks_does_not_judge(scorer: TextScorer) -> None:
    scores = _scores(scorer, NEAR_NEUTRAL)
    assert {text: s.polarity for text, s in scores.items() if abs(s.polarity) > 0.35} == {}


def test_a_language_it_was_not_taught_gets_no_confident_polarity(scorer: TextScorer) -> None:
    for score in _scores(scorer, UNKNOWN).values():
        assert score.language not in ("en", "zh")
        assert score.confidence <= 0.2
        assert abs(score.polarity) <= 0.2


def test_names_brands_and_typos_keep_their_confidence(scorer: TextScorer) -> None:
    texts = (
        "Ernie Ball Slinky strings",
        "Behringer Xenyx mixer",
        "Grate qualty product",
        "Luv dis guitar",
        "Meh",
    )
    assert {text: s.language for text, s in _scores(scorer, texts).items() if s.language != "en"} == {}


def test_an_emoji_beside_a_word_costs_no_confidence(scorer: TextScorer) -> None:
    for text, score in _scores(scorer, tuple(EMOJI)).items():
        assert score.polarity * EMOJI[text] > 0.5, text
        assert score.confidence > 0.5, text


def test_emoji_alone_say_nothing(scorer: TextScorer) -> None:
    for score in _scores(scorer, ("😡", "👍🏽👍🏽", "😀 😀 😀")).values():
        assert (score.confidence, score.intent, score.language) == (0.2, None, "und")


def test_strong_words_are_more_intense(scorer: TextScorer) -> None:
    strong, mild = "Absolutely perfect, the best thing I have ever bought!!!", "it is okay, nothing special"
    scores = _scores(scorer, (strong, mild))
    assert scores[strong].intensity > scores[mild].intensity + 0.2


def test_the_same_topic_is_found_in_both_languages(scorer: TextScorer) -> None:
    pairs = {
        "物流太慢了，等了一个星期": "delivery",
        "客服态度很差，没人回复": "service",
        "尺码偏小，不合身": "fit",
        "性价比很高，价格实惠": "price",
    }
    for text, score in _scores(scorer, tuple(pairs)).items():
        assert pairs[text] in [name for name, _ in score.topics], text
