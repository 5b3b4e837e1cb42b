"""Which parameters train, at which rate, and how the rate runs over the steps."""

from __future__ import annotations

import math

import torch
from torch import nn

from models.errors import DeploymentError
from models.training.network import FeedbackModel
from models.training.settings import Settings
from models.training.vocabulary import ExtendedEmbedding

LORA_TARGETS = {"distilbert": ["q_lin", "v_lin"]}
LORA_TARGETS_ELSEWHERE = ["query", "value"]


def prepare_mode(model: FeedbackModel, settings: Settings) -> None:
    """Freezes what does not train, and puts the LoRA matrices into the encoder where asked for."""
    if settings.mode == "full":
        return
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    if settings.mode == "lora":
        model.encoder = _with_lora(model.encoder, settings)
    table = model.encoder.get_input_embeddings()
    if isinstance(table, ExtendedEmbedding):
        table.new.requires_grad_(True)


def _with_lora(encoder: nn.Module, settings: Settings) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise DeploymentError("mode lora needs peft: pip install 'livelist[train]'") from None
    targets = LORA_TARGETS.get(encoder.config.model_type, LORA_TARGETS_ELSEWHERE)
    return get_peft_model(
        encoder,
        LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=targets, bias="none"),
    )


def merge_lora(encoder: nn.Module) -> nn.Module:
    """The plain encoder with what LoRA learnt added to its matrices."""
    merge = getattr(encoder, "merge_and_unload", None)
    return encoder if merge is None else merge()


def make_optimizer(model: FeedbackModel, settings: Settings) -> torch.optim.AdamW:
    """AdamW in groups: encoder and heads with and without decay (biases, norms), added word vectors."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    table = model.encoder.get_input_embeddings()
    new_rows = table.new if isinstance(table, ExtendedEmbedding) else None
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.rate if name.startswith("encoder.") else settings.head_rate
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        if parameter is new_rows:
            rate, decay = settings.new_rows_rate, 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=(0.9, 0.98),
    )


def rate_factor(step: int, steps: int, settings: Settings) -> float:
    """What the rates are multiplied by at a step counted from 0: up from 0, then down towards 0."""
    warm = int(steps * settings.warm_up)
    if step < warm:
        return (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return 1.0
    left = 1 - (step - warm) / max(1, steps - warm)
    return left if settings.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Sets every group's rate; returns the largest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)
