"""The values of flags: texts that people gave to numbers, times and names."""

from __future__ import annotations

import argparse
import re

from models.errors import BadRecord, UsageError
from models.records import Micros
from models.times import parse_time


def rating_scale(text: str) -> tuple[float, float]:
    """`1:5` as (1.0, 5.0). Raises UsageError."""
    try:
        low, high = text.split(":")
        return float(low), float(high)
    except ValueError:
        raise UsageError(f"--rating_scale: expected LOW:HIGH such as 1:5, got {text!r}") from None


def provider_names(text: str) -> tuple[str, ...]:
    """Comma-separated execution providers; `cuda`, `tensorrt` and `cpu` stand for their long names."""
    long_names = {
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "cpu": "CPUExecutionProvider",
    }
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(long_names.get(name.lower(), name) for name in names)


def optional_time(text: str | None) -> Micros | None:
    """Microseconds of `--now`, None without. Raises UsageError."""
    if text is None:
        return None
    try:
        return parse_time(text, "--now")
    except BadRecord as error:
        raise UsageError(error.reason) from None


def gpu_type(text: str) -> str:
    """The type of an accelerator, for argparse."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,62}", text):
        raise argparse.ArgumentTypeError(f"expected a type such as nvidia-l4, got {text!r}")
    return text


def positive_int(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def port_number(text: str) -> int:
    """A TCP port, or 0 for any free one, for argparse."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def not_negative(text: str) -> float:
    """A number of at least 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e15:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return number


def positive_float(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e15:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
