"""A BERT small enough to train within a second, with a real WordPiece tokenizer, and texts it can learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

GOOD, BAD, PLAIN = ("great", "lovely", "perfect"), ("awful", "broken", "poor"), ("fine", "usual", "average")
THINGS = {"shoes": ("shoe", "sole"), "books": ("novel", "page"), "food": ("soup", "bread")}
FILLERS = ("the", "a", "was", "is", "very", "really", "i", "think", "and", "it", "my", "new")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save_tiny_bert(folder: Path, family: str = "bert", layers: int = 2, heads: int = 2) -> Path:
    """A random encoder of width 32 and its tokenizer, as a Hugging Face folder."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = (*GOOD, *BAD, *PLAIN, *(word for pair in THINGS.values() for word in pair), *FILLERS)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys((*SPECIAL, *words, *letters)))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(list(SPECIAL))
    torch.manual_seed(0)
    size = len(vocabulary)
    if family == "distilbert":
        model = transformers.DistilBertModel(
            transformers.DistilBertConfig(
                vocab_size=size,
                dim=32,
                n_layers=layers,
                n_heads=heads,
                hidden_dim=64,
                max_position_embeddings=64,
            )
        )
    elif family == "roberta":
        model = transformers.RobertaModel(
            transformers.RobertaConfig(
                vocab_size=size, hidden_size=32, num_hidden_layers=layers, num_attention_heads=heads,
                intermediate_size=64, max_position_embeddings=66, pad_token_id=1,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
    else:
        model = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=size, hidden_size=32, num_hidden_layers=layers, num_attention_heads=heads,
                intermediate_size=64, max_position_embeddings=64,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def make_rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Reviews whose words tell the rating, the topic and the intent; a third of each label is absent."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for number in range(count):
        stars = int(random.choice([1, 3, 5]))
        topic = str(random.choice(list(THINGS)))
        words = [*random.choice(FILLERS, 3), random.choice(THINGS[topic])]
        words += [random.choice({1: BAD, 3: PLAIN, 5: GOOD}[stars]), *random.choice(FILLERS, number % 5)]
        row: dict[str, object] = {"text": " ".join(map(str, words)), "rating": stars, "topics": [topic]}
        row["intent"] = {"shoes": "buy", "books": "lend", "food": "oos"}[topic]
        row.pop(("rating", "topics", "intent", "")[number % 4] or "none", None)
        rows.append(row)
    return rows


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """As JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
