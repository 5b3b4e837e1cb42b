"""New words for an encoder: further rows of its word vectors, trained at a pace of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer
from torch import nn
from torch.nn import functional

from models.training.network import Base
from models.training.tasks import Floats


class ExtendedEmbedding(nn.Module):
    """A table of word vectors in two parts: the rows that were there, and the added ones."""

    def __init__(self, old: torch.Tensor, new: torch.Tensor, train_old: bool) -> None:
        super().__init__()
        self.old = nn.Parameter(old, requires_grad=train_old)
        self.new = nn.Parameter(new)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of shape (*ids.shape, hidden)."""
        count = len(self.old)
        added = functional.embedding((ids - count).clamp(min=0), self.new)
        return torch.where(
            (ids >= count).unsqueeze(-1), added, functional.embedding(ids.clamp(max=count - 1), self.old)
        )

    def joined(self) -> torch.Tensor:
        """The whole table."""
        return torch.cat([self.old.detach(), self.new.detach()])


def extend_vocabulary(base: Base, rows: Mapping[str, Floats], train_old: bool = False) -> None:
    """Adds words to the tokenizer and their vectors (hidden,) to the encoder, in place.

    The words are matched before WordPiece and on the text as it is written, so that an unknown character
    next to one stays a single [UNK]. Words that the tokenizer already has as a whole are refused.
    """
    tokenizer = Tokenizer.from_str(base.tokenizer_json)
    known = [word for word in rows if tokenizer.token_to_id(word) is not None]
    if known:
        raise ValueError(f"{len(known)} words are in the vocabulary already, such as {known[0]!r}")
    embedding = base.encoder.get_input_embeddings()
    old = embedding.weight.detach().clone()
    if tokenizer.get_vocab_size() != len(old):
        raise ValueError(
            f"the tokenizer has {tokenizer.get_vocab_size()} tokens, the encoder {len(old)} rows"
        )
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in rows])
    new = torch.from_numpy(np.stack(list(rows.values())).astype(np.float32))
    base.encoder.set_input_embeddings(ExtendedEmbedding(old, new, train_old))
    base.encoder.config.vocab_size = len(old) + len(new)
    base.tokenizer_json = tokenizer.to_str()


def join_embeddings(encoder: nn.Module) -> None:
    """Makes the two parts one ordinary table again, in place."""
    table = encoder.get_input_embeddings()
    if isinstance(table, ExtendedEmbedding):
        padding = encoder.config.pad_token_id
        encoder.set_input_embeddings(nn.Embedding.from_pretrained(table.joined(), False, padding))


def shrink_vocabulary(base: Base, kept: set[str]) -> None:
    """Drops the words that are not `kept` from a WordPiece tokenizer and their rows, in place.

    Special tokens stay; ids are renumbered in their order.
    """
    parts = json.loads(base.tokenizer_json)
    if parts["model"]["type"] != "WordPiece":
        raise ValueError(f"expected a WordPiece tokenizer, got {parts['model']['type']}")
    special = {token["content"] for token in parts["added_tokens"]}
    words = sorted(parts["model"]["vocab"].items(), key=lambda pair: pair[1])
    rows = [(word, row) for word, row in words if word in kept | special]
    place = {word: number for number, (word, _) in enumerate(rows)}
    parts["model"]["vocab"] = place
    for token in parts["added_tokens"]:
        token["id"] = place[token["content"]]
    _renumber_specials(parts, place)
    table = base.encoder.get_input_embeddings().weight.detach()[[row for _, row in rows]].clone()
    padding = place[words[base.encoder.config.pad_token_id][0]]
    base.encoder.set_input_embeddings(nn.Embedding.from_pretrained(table, False, padding))
    base.encoder.config.vocab_size, base.encoder.config.pad_token_id = len(rows), padding
    base.tokenizer_json = json.dumps(parts, ensure_ascii=False)


def _renumber_specials(parts: dict[str, object], place: Mapping[str, int]) -> None:
    """A template post-processor keeps the ids of [CLS] and [SEP] beside their names."""
    processor = parts.get("post_processor")
    if not isinstance(processor, dict):
        return
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [place[word] for word in token["tokens"]]
    for name in ("cls", "sep"):
        if name in processor:
            processor[name] = [processor[name][0], place[processor[name][0]]]
