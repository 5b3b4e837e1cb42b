"""Training texts made slightly different: random edits of tokens, words exchanged for synonyms, FGM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.errors import InputError


def edit_tokens(
    ids: Sequence[int], share: float, random: np.random.Generator, mask_id: int | None
) -> list[int]:
    """About `share` of the inner tokens deleted, swapped with the next, or masked; ends stay.

    The edits of EDA (Wei and Zou 2019) that need no dictionary, on tokens; at least one token remains.
    """
    inner = list(ids[1:-1])
    for place in sorted(np.flatnonzero(random.random(len(inner)) < share).tolist(), reverse=True):
        kind = int(random.integers(3))
        if kind == 0 and len(inner) > 1:
            del inner[place]
        elif kind == 1 and place + 1 < len(inner):
            inner[place], inner[place + 1] = inner[place + 1], inner[place]
        elif mask_id is not None and place < len(inner):
            inner[place] = mask_id
    return [ids[0], *inner, ids[-1]]


def read_synonyms(path: Path) -> dict[str, tuple[str, ...]]:
    """Lines of words that may stand for each other, separated by tabs or commas.

    Raises InputError when the file cannot be read or has no such line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the synonyms {path}: {error}") from None
    groups = [
        [word.strip().lower() for word in line.replace("\t", ",").split(",") if word.strip()]
        for line in lines
    ]
    table = {word: tuple(other for other in group if other != word) for group in groups for word in group}
    if not any(table.values()):
        raise InputError(f"{path}: expected lines of two or more words, such as `cheap,inexpensive`")
    return table


def exchange_synonyms(
    text: str, synonyms: Mapping[str, Sequence[str]], share: float, random: np.random.Generator
) -> str:
    """The text with about `share` of its words that have a synonym exchanged for one."""
    words = text.split(" ")
    for place, word in enumerate(words):
        choices = synonyms.get(word.lower().strip(".,!?;:"))
        if choices and random.random() < share:
            words[place] = choices[int(random.integers(len(choices)))]
    return " ".join(words)


class WordVectorStep:
    """The adversarial step of FGM (Miyato et al. 2017) on the word vectors of a batch.

    `watch` keeps the vectors' gradient; within `apply` they are moved by `length` along it, each text's
    gradient scaled to norm 1.
    """

    def __init__(self, embedding: nn.Module, length: float) -> None:
        self._embedding, self._length = embedding, length
        self._vectors: torch.Tensor | None = None
        self._delta: torch.Tensor | None = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """For the first pass, forward and backward."""
        handle = self._embedding.register_forward_hook(self._keep)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def apply(self) -> Iterator[None]:
        """For the second pass on the same batch."""
        gradient = None if self._vectors is None else self._vectors.grad
        if gradient is None:
            raise RuntimeError("the word vectors have no gradient: run the first pass under `watch`")
        norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1)
        self._delta = self._length * gradient / norm
        handle = self._embedding.register_forward_hook(self._move)
        try:
            yield
        finally:
            handle.remove()
            self._vectors = self._delta = None

    def _keep(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        output.retain_grad()
        self._vectors = output
        return output

    def _move(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output if self._delta is None else output + self._delta
