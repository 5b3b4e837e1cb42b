"""The encoder as workers use it: onnxruntime and tokenizers, never torch.

Names are looked up when first used, so that `models.encoder.artefact` can be read without onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.encoder.scorer import ScoringFailure, TextScorer, score_as_json

__all__ = ["ScoringFailure", "TextScorer", "score_as_json"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from models.encoder import scorer

    value: object = getattr(scorer, name)
    return value
