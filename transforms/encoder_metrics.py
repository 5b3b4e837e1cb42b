"""What the encoder did, as Beam metrics of each model version."""

from __future__ import annotations

from typing import Final

from apache_beam.metrics import Metrics

from models.encoder.scorer import BatchStatistics
from models.encoder.serving import CanaryComparison, Served

#: Counters and distributions of a model version stand under `encoder.<version>`, a canary's comparison under
#: `canary.<serving version>.<canary version>`, and what belongs to no version under `encoder`.
NAMESPACE: Final = "encoder"
CANARY_NAMESPACE: Final = "canary"
_COUNTED: Final = (
    "texts", "cache_hits", "encoded", "calls", "tokens", "computed_tokens", "cut", "failed",
)  # fmt: skip
#: The unit of the counter `polarity_delta`: counters are integers.
POLARITY_STEP: Final = 1e-4


def record_batch(served: Served) -> None:
    """Adds what one batch did, and whatever the pool has to tell."""
    _record_statistics(f"{NAMESPACE}.{served.version}", served.statistics)
    if served.canary is not None:
        _record_canary(served.canary)
    if served.refusals:
        Metrics.counter(NAMESPACE, "models_refused").inc(len(served.refusals))


def _record_statistics(namespace: str, statistics: BatchStatistics) -> None:
    for name in _COUNTED:
        Metrics.counter(namespace, name).inc(getattr(statistics, name))
    Metrics.distribution(namespace, "batch_texts").update(statistics.texts)
    Metrics.distribution(namespace, "batch_latency_micros").update(round(statistics.seconds * 1e6))
    if statistics.computed_tokens:
        padding = 1 - statistics.tokens / statistics.computed_tokens
        Metrics.distribution(namespace, "padding_percent").update(round(100 * padding))


def _record_canary(compared: CanaryComparison) -> None:
    namespace = f"{CANARY_NAMESPACE}.{compared.serving}.{compared.canary}"
    counted = {
        "texts": compared.texts,
        "agreed": compared.agreed,
        "failures": compared.canary_failures,
        "polarity_delta": round(compared.polarity_delta / POLARITY_STEP),
        "serving_micros": round(compared.serving_seconds * 1e6),
        "canary_micros": round(compared.canary_seconds * 1e6),
    }
    for name, value in counted.items():
        Metrics.counter(namespace, name).inc(value)
