"""Where the arithmetic runs, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def default_device() -> torch.device:
    """The first GPU, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware: emulated it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """bfloat16 for the products, where asked for."""
    context: AbstractContextManager[object] = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
    return context
