"""The recipe of the default model: its texts and folds, the characters' first rows, the fused answer."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: make test-all")
onnx = pytest.importorskip("onnx", reason="onnx is missing: make test-all")
transformers = pytest.importorskip("transformers", reason="transformers is missing: make test-all")

import onnxruntime  # noqa: E402
from onnx import ModelProto  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordPiece  # noqa: E402
from tokenizers.normalizers import BertNormalizer  # noqa: E402
from tokenizers.pre_tokenizers import BertPreTokenizer  # noqa: E402

from models.encoder.ngrams import ngram_ids  # noqa: E402
from models.export.calibration import choose_scales  # noqa: E402
from models.export.checkpoint import Linear, bert_of  # noqa: E402
from models.export.graph import GraphWriter, QuantizedEncoder  # noqa: E402
from models.export.outputs import GraphHead, add_outputs  # noqa: E402
from models.training.default_model.corpora import (  # noqa: E402
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    Example,
    fold_of,
    read_corpora,
    undo_treebank,
    without_leaks,
    written_reviews,
)
from models.training.default_model.fusion import LEAST_TRUST, Fusion, Sureness, fit_fusion, fit_sureness  # noqa: E402
from models.training.default_model.glossary import (  # noqa: E402
    characters,
    first_rows,
    gloss,
)
from models.training.default_model.graph import fuse_ngrams, quantize_table  # noqa: E402
from models.training.default_model.ngram_table import BUCKETS, fit_table, score_texts  # noqa: E402
from models.training.default_model.phrases import clauses, made_up_texts  # noqa: E402
from models.training.default_model.recipe import repeat, sentiment_target  # noqa: E402

pytestmark = pytest.mark.train


def _example(corpus: str, text: str, sentiment: int | None, **more: object) -> Example:
    return Example(corpus, text, "zh", "train", sentiment, **more)  # type: ignore[arg-type]


def test_the_folds_depend_on_the_text_alone() -> None:
    folds = [fold_of(f"review {i}") for i in range(3000)]
    assert folds == [fold_of(f" Review {i} ") for i in range(3000)]
    assert 0.17 < folds.count("test") / 3000 < 0.23
    assert 0.02 < folds.count("dev") / 3000 < 0.06


def test_sentences_that_sst_teaches_are_not_judged_on_in_mr() -> None:
    taught = Example("sst", "A fine film.", "en", "train", POSITIVE)
    same = Example("mr", "a fine film .", "en", "test", POSITIVE)
    other = Example("mr", "a dull film .", "en", "test", NEGATIVE)
    assert without_leaks([taught, same, other]) == [taught, other]


def test_a_folder_gives_the_sets_it_has(tmp_path: Path) -> None:
    (tmp_path / "zh_waimai_10k").mkdir()
    (tmp_path / "zh_waimai_10k" / "waimai.csv").write_text("label,review\n1,很好吃\n0,太慢了\n1,很好吃\n")
    examples, present = read_corpora(tmp_path)
    assert [c.name for c in present] == ["zh_waimai_10k"]
    read = [(e.text, e.sentiment) for e in examples if e.corpus == "zh_waimai"]
    assert read == [("很好吃", POSITIVE), ("太慢了", NEGATIVE)]


def test_treebank_spaces_are_undone() -> None:
    assert undo_treebank("it does n't work , sadly .") == "it doesn't work, sadly."


def test_no_made_up_text_has_two_labels() -> None:
    labels: dict[str, set[int | None]] = {}
    for example in made_up_texts(0):
        labels.setdefault(example.text, set()).add(example.sentiment)
    assert {text: found for text, found in labels.items() if len(found) > 1} == {}
    assert made_up_texts(0) == made_up_texts(0)


def test_the_written_reviews_are_of_both_languages_every_side_and_every_fold() -> None:
    read = list(written_reviews())
    assert len({e.text for e in read}) == len(read) > 1_000
    kinds = {(e.language, e.sentiment, e.fold) for e in read}
    assert kinds == set(product(("en", "zh"), (NEGATIVE, NEUTRAL, POSITIVE), ("train", "dev", "test")))


def test_every_domain_has_praise_blame_and_questions_in_both_languages() -> None:
    texts = {(e.text, e.sentiment) for e in made_up_texts(0)}
    for domain, lists in clauses().items():
        for language in ("en", "zh"):
            assert {(clause, POSITIVE) for clause in lists[f"good_{language}"]} <= texts
            assert {(clause, NEGATIVE) for clause in lists[f"bad_{language}"]} <= texts
            asked = lists.get(f"ask_{language}", [])
            assert domain == "verdicts" or {(question, NEUTRAL) for question in asked} <= texts


def test_a_set_of_praise_is_tempered() -> None:
    group = [_example("set", str(i), POSITIVE if i % 10 else NEGATIVE) for i in range(1000)]
    seen = repeat(group, 0)
    assert sum(e.sentiment == NEGATIVE for e in seen) == 100
    assert sum(e.sentiment == POSITIVE for e in seen) == 200


def test_a_set_without_neutral_texts_says_a_little_of_them() -> None:
    target = sentiment_target(_example("set", "x", POSITIVE, sided=True))
    assert target.sum() == pytest.approx(1)
    assert target[POSITIVE] > 0.9 > 0.1 > target[NEUTRAL] > 0 == target[NEGATIVE]
    assert np.isnan(sentiment_target(_example("set", "x", None))).all()


def test_the_longest_word_is_glossed_first() -> None:
    assert gloss("手机") == "mobile phone"
    assert "mobile phone" in gloss("这个手机ok，很好")
    assert len(gloss("好" * 10_000)) < 2_000


def test_first_rows_are_as_long_as_the_old_ones_and_near_their_gloss() -> None:
    words = sorted({w for senses in list(characters().values())[:400] for w in senses.split() if w.isalpha()})
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "mother", *words])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    table = np.random.default_rng(0).normal(size=(len(vocabulary), 64)).astype(np.float32)
    rows = first_rows(table, tokenizer, 0)
    length = float(np.median(np.linalg.norm(table, axis=1)))
    assert all(np.linalg.norm(row) == pytest.approx(length, rel=1e-4) for row in rows.values())
    seven = table[tokenizer.token_to_id("seven")]
    assert float(rows["七"] @ seven) / (length * float(np.linalg.norm(seven))) > 0.95


def test_the_table_learns_which_words_are_praise() -> None:
    texts = [(f"{'很好' if i % 2 else '很差'}第{i % 7}次", i % 2) for i in range(200)]
    table = fit_table([_example("set", text, POSITIVE if good else NEGATIVE) for text, good in texts])
    scores, wide = score_texts(table, ["真的很好", "真的很差", "english only"])
    assert scores[0] > 0 > scores[1]
    assert scores[2] == 0
    assert wide.tolist() == [1, 1, 0]


def test_fusion_trusts_what_is_right() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 600)
    targets = np.eye(3, dtype=np.float32)[2 * truth]
    noise = random.normal(size=(600, 3)).astype(np.float32)
    right = (2 * truth - 1 + random.normal(size=600) / 3).astype(np.float32)
    every = np.ones(600, np.float32)
    assert fit_fusion(noise, right, every, targets, every).trust > 1.5
    assert fit_fusion(noise, -right, every, targets, every).trust == LEAST_TRUST
    assert fit_fusion(noise, right, every, targets, every).scale < 0.3


def test_sureness_is_less_where_a_kind_of_text_is_often_misread() -> None:
    random = np.random.default_rng(0)
    truth, hard = random.integers(0, 2, 4000), np.arange(4000) % 2
    read = np.where(random.random(4000) < np.where(hard, 0.25, 0.02), 1 - truth, truth)
    logits = (2.5 * np.eye(2)[read]).astype(np.float32)
    embeddings, targets = np.eye(2, dtype=np.float32)[hard], np.eye(2, dtype=np.float32)[truth]
    sureness = fit_sureness(logits, embeddings, targets, np.ones(4000, np.float32), 1e-5)
    spread = np.ptp(sureness.apply(logits, embeddings), axis=1)
    right = [1 / (1 + np.exp(-spread[hard == kind].mean())) for kind in (0, 1)]
    assert right == pytest.approx([0.98, 0.75], abs=0.03)
    wild = Sureness(np.array([1e9, -1e9], np.float32), 0.0).apply(logits, embeddings)
    assert np.array_equal(wild.argmax(axis=1), logits.argmax(axis=1))
    assert np.isfinite(wild).all()


SURENESS = Sureness(np.random.default_rng(5).normal(size=64).astype(np.float32), 0.1)
FUSION = Fusion(plain=0.9, scale=0.7, trust=0.4)
TABLE = np.random.default_rng(0).normal(size=BUCKETS).astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """A sentiment head with the n-grams beside it, on a small BERT of random weights."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bert")
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(path)
    bert, random = bert_of(transformers.AutoModel.from_pretrained(path)), np.random.default_rng(0)
    linear = Linear(random.normal(size=(64, 3)).astype(np.float32), np.zeros(3, np.float32))
    writer = GraphWriter()
    scales = choose_scales(bert, random.integers(0, 200, (20, 12)).tolist())
    states = QuantizedEncoder(writer, bert, scales).hidden_states()
    head = GraphHead(
        "sentiment", (("cls", -1),), linear, "softmax", fusion=fuse_ngrams(TABLE, FUSION, SURENESS)
    )
    widths = add_outputs(writer, states, [head])
    shapes: dict[str, tuple[str | int, ...]] = {
        name: ("batch", width) for name, width in {"embedding": 64, **widths}.items()
    }
    return writer.model(shapes, ("input_ids", "ngram_ids"))


def _run(model: ModelProto, ids: list[list[int]], ngrams: list[list[int]]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = (len(ngrams), len(ngrams[0]))
    feed = {"input_ids": np.array(ids), "ngram_ids": np.array(ngrams, np.int64).reshape(shape)}
    return list(session.run(None, feed))


def test_the_graph_fuses_as_the_fusion_does(graph: ModelProto) -> None:
    ids = [[5, 6, 7, 8]]
    ngrams = ngram_ids("质量很好", BUCKETS).tolist()
    rows, scale = quantize_table(TABLE)
    score = rows[ngrams, 0].sum() * scale / np.sqrt(len(ngrams))
    embedding, given = _run(graph, ids, [[]])
    [[factor]] = SURENESS.apply(np.ones((1, 1), np.float32), embedding)
    plain = np.log(given) / FUSION.plain / factor
    fused = FUSION.apply(plain, np.array([score], np.float32), np.ones(1, np.float32))
    expected = np.exp(factor * fused) / np.exp(factor * fused).sum()
    assert np.allclose(_run(graph, ids, [ngrams])[1], expected, atol=1e-4)


def test_ngrams_that_pad_and_texts_beside_change_no_bit(graph: ModelProto) -> None:
    ids = np.random.default_rng(3).integers(0, 200, (3, 9)).tolist()
    ngrams = [[1, 2, 3], [4, BUCKETS, BUCKETS], [5, 6, BUCKETS]]
    together = _run(graph, ids, ngrams)
    for i, row in enumerate(ngrams):
        alone = _run(graph, [ids[i]], [[bucket for bucket in row if bucket < BUCKETS]])
        assert all(np.array_equal(a[i], b[0]) for a, b in zip(together, alone, strict=True))
