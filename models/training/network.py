"""The model: one encoder, a head for each task, and the mean pool that is the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from models.encoder.tokens import TextTokenizer
from models.errors import DeploymentError
from models.training.tasks import Floats, Task, parse_feature


@dataclass(slots=True)
class Base:
    """An encoder to start from, its tokenizer as `tokenizers` JSON (no padding, no cutting), its name."""

    encoder: nn.Module
    tokenizer_json: str
    name: str

    def tokenizer(self, max_length: int) -> TextTokenizer:
        """Texts to ids, cut as the job cuts them."""
        return TextTokenizer(self.tokenizer_json, max_length)

    def mask_id(self) -> int | None:
        """The id of the mask token, where the tokenizer has one."""
        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        found = (tokenizer.token_to_id(name) for name in ("[MASK]", "<mask>"))
        return next((number for number in found if number is not None), None)

    @property
    def most_tokens(self) -> int:
        """The longest input that the positions allow."""
        config = self.encoder.config
        offset = config.pad_token_id + 1 if config.model_type in ROBERTA_LIKE else 0
        return int(config.max_position_embeddings) - offset


#: Families whose positions count from the padding id + 1.
ROBERTA_LIKE = ("roberta", "xlm-roberta", "camembert")
#: Families that have been tried; others may work with mode full or frozen.
FAMILIES = ("bert", "distilbert", *ROBERTA_LIKE)


def load_base(name: str | Path, attention: str = "") -> Base:
    """A BERT-family encoder from a folder, a run's checkpoint, or the hub.

    `attention` is transformers' implementation; by default eager on a CPU, where it is the fastest with
    bfloat16, and sdpa on a GPU. Raises DeploymentError when there is no such encoder.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports the pooler that is left out as a finding
    logging.disable_progress_bar()
    place = _encoder_folder(name)
    attention = attention or ("sdpa" if torch.cuda.is_available() else "eager")
    try:
        config = AutoConfig.from_pretrained(place)
        if config.model_type not in FAMILIES:
            raise DeploymentError(
                f"{name} is a {config.model_type!r} model; expected one of {', '.join(FAMILIES)}"
            )
        without_pooler = {} if config.model_type == "distilbert" else {"add_pooling_layer": False}
        encoder = AutoModel.from_pretrained(
            place, attn_implementation=attention, dtype=torch.float32, **without_pooler
        )
    except (OSError, ValueError) as error:
        raise DeploymentError(
            f"cannot load an encoder from {name}: {_first_line(error)}; give a folder with config.json and "
            "model.safetensors, or a name on the Hugging Face hub"
        ) from None
    return Base(encoder, read_tokenizer(place), str(name))


def _encoder_folder(name: str | Path) -> str:
    """A run folder stands for the encoder inside its checkpoint."""
    folder = Path(name)
    for inner in (folder / "checkpoint" / "encoder", folder / "encoder"):
        if (inner / "config.json").is_file():
            return str(inner)
    return str(name)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_tokenizer(place: str | Path) -> str:
    """A checkpoint's tokenizer as JSON, without its padding and truncation.

    Raises DeploymentError when it has no fast tokenizer.
    """
    file = Path(place) / "tokenizer.json"
    if file.is_file():
        tokenizer = Tokenizer.from_file(str(file))
    else:
        from transformers import AutoTokenizer

        try:
            fast = AutoTokenizer.from_pretrained(place, use_fast=True)
        except (OSError, ValueError, ImportError) as error:
            raise DeploymentError(f"cannot load the tokenizer of {place}: {_first_line(error)}") from None
        if not getattr(fast, "is_fast", False):
            raise DeploymentError(f"{place} has no fast tokenizer (tokenizer.json); choose another base")
        tokenizer = fast.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return str(tokenizer.to_str())


@dataclass(slots=True)
class Output:
    """What the model gives for a batch."""

    logits: dict[str, torch.Tensor]  # task -> (texts, outputs)
    pooled: torch.Tensor  # (texts, hidden): mean over the tokens of the last layer
    states: tuple[torch.Tensor, ...]  # (texts, tokens, hidden) of the embedding layer and every layer


class FeedbackModel(nn.Module):
    """An encoder with a linear head for each task.

    Subclasses may override `extra_logits` to add terms that read something else than the encoder.
    """

    def __init__(self, encoder: nn.Module, tasks: Sequence[Task], dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = tuple(tasks)
        self.dropout = nn.Dropout(dropout)
        hidden = int(encoder.config.hidden_size)
        self.heads = nn.ModuleDict()
        for task in self.tasks:
            head = nn.Linear(hidden * len(task.features), task.outputs)
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
            self.heads[task.name] = head

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, extra: Mapping[str, torch.Tensor] | None = None
    ) -> Output:
        """`ids` and `mask` have shape (texts, tokens); `extra` is handed to `extra_logits`."""
        states = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        pooled = mean_pool(states[-1], mask)
        added = self.extra_logits(extra or {})
        logits = {}
        for task in self.tasks:
            features = torch.cat([read_feature(name, states, mask) for name in task.features], dim=-1)
            logits[task.name] = self.heads[task.name](self.dropout(features))
            if task.name in added:
                logits[task.name] = logits[task.name] + added[task.name]
        return Output(logits, pooled, states)

    def extra_logits(self, extra: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Further terms of the logits by task; none here."""
        return {}


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of each text, special tokens included, as sentence-transformers does."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def read_feature(name: str, states: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """One feature of `Task.features`, shape (texts, hidden)."""
    pooling, layer = parse_feature(name)
    return states[layer][:, 0] if pooling == "cls" else mean_pool(states[layer], mask)


def embed_texts(
    base: Base, texts: Sequence[str], max_length: int = 128, batch_size: int = 64, bf16: bool = False
) -> Floats:
    """Unit embeddings of shape (texts, hidden) by an encoder as it stands, in batches sorted by length."""
    from models.training.batches import pad_ids
    from models.training.device import autocast, default_device

    device = default_device()
    encoder = base.encoder.to(device).eval()
    ids = base.tokenizer(min(max_length, base.most_tokens)).encode(texts)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result = np.zeros((len(ids), int(base.encoder.config.hidden_size)), np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch, mask = pad_ids([ids[i] for i in rows], device)
        with torch.inference_mode(), autocast(device, bf16):
            states = encoder(input_ids=batch, attention_mask=mask).last_hidden_state
            pooled = mean_pool(states.float(), mask)
        result[rows] = functional.normalize(pooled, dim=-1).cpu().numpy()
    return result
