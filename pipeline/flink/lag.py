"""What waits in the inputs of a job on a cluster, beyond what its readers tell that they have read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.cluster.health import Pulled
from pipeline.connectors.addresses import KafkaTopic
from pipeline.connectors.uris import is_connector, parse_source, redacted
from pipeline.flink.source import progress_file, unread_bytes
from pipeline.inputs.progress import Progress, read_progress


def pulled_sources(inputs: Sequence[str], folder: Path) -> tuple[Pulled, ...]:
    """How far the job has read its pulled inputs; asks their brokers, as far as they tell."""
    return tuple(
        _pulled(uri, read_progress(progress_file(folder, at)))
        for at, uri in enumerate(part for part in inputs if is_connector(part))
    )


def _pulled(uri: str, progress: Progress) -> Pulled:
    address, waiting = parse_source(uri), None
    if isinstance(address, KafkaTopic):
        from pipeline.connectors.kafka import unread_messages

        waiting = unread_messages(address, progress.offsets)
    return Pulled(redacted(uri), waiting or 0, progress.moved)


def files_among(inputs: Sequence[str]) -> list[str]:
    """Those that are followed."""
    return [part for part in inputs if not is_connector(part)]


def all_is_read(inputs: Sequence[str], folder: Path) -> bool:
    """Whether nothing is known to wait."""
    unread = unread_bytes(files_among(inputs), read_progress(progress_file(folder)))
    return not unread and not any(source.waiting for source in pulled_sources(inputs, folder))
