"""Beam's RunInference without torch, which Beam's manager of models imports wherever it is installed.

That manager is of no use here: ONNX Runtime loads our models. The import costs every process seconds and
some 400 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _as_if_absent(module: str) -> Iterator[None]:
    """Imports of it fail, as where it is not installed; one that was imported before stays."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


with _as_if_absent("torch"):
    from apache_beam.ml.inference.base import ModelHandler, RunInference

__all__ = ["ModelHandler", "RunInference"]
