"""How a run trains: one frozen record, which also stands in the run's config.json."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

Mode = Literal["full", "lora", "frozen"]
ClassWeights = Literal["none", "root", "balanced"]
Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Rates are AdamW's; a `rate` of a part that does not train is not used."""

    mode: Mode = "full"
    epochs: float = 3.0
    max_steps: int = 0  # optimizer steps; 0 leaves it to `epochs`
    batch_size: int = 32
    accumulate: int = 1  # batches an optimizer step
    rate: float = 5e-5  # of the encoder
    head_rate: float = 1e-3
    new_rows_rate: float = 2e-3  # of the rows that `extend_vocabulary` added
    weight_decay: float = 0.01
    warm_up: float = 0.1  # share of the steps
    schedule: Schedule = "linear"
    clip: float = 1.0  # largest norm of the gradient; 0 leaves it
    dropout: float = 0.1  # before the heads
    label_smoothing: float = 0.0  # of softmax tasks
    class_weights: ClassWeights = "none"
    bf16: bool = True  # where the hardware has it
    seed: int = 0
    max_length: int = 128  # tokens a training text
    evaluate_every: int = 0  # steps; 0 is once an epoch
    patience: int = 0  # evaluations without a better score before stopping; 0 never stops early
    keep_best: bool = True  # end with the weights of the best evaluation, not with the last
    save_every: int = 200  # steps between the states a killed run resumes from; 0 never
    hold_embedding: float = 1.0  # weight of 2 (1 - cos) to the given embeddings
    contrast_embedding: float = 0.0  # weight of telling a text's given embedding from its neighbours'
    edits: float = 0.0  # share of tokens deleted, swapped or masked in a training text
    adversarial: float = 0.0  # FGM: length of the step along the gradient of the word vectors
    lora_rank: int = 8
    lora_alpha: float = 16.0

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "accumulate": 1, "max_length": 8, "lora_rank": 1}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} must be a finite number, got {value}")
            if value < least.get(field.name, 0):
                raise ValueError(f"{field.name} must be at least {least.get(field.name, 0)}, got {value}")
        if self.seed >= 1 << 32:  # the trainer's seeds are this one and the step, 32 bits each
            raise ValueError(f"seed must be below {1 << 32}, got {self.seed}")
        shares = ("dropout", "label_smoothing", "edits", "warm_up")
        for name in shares:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not self.epochs and not self.max_steps:
            raise ValueError(f"expected epochs or max_steps above 0, got {self.epochs} and {self.max_steps}")
