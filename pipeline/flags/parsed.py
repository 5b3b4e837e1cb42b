"""Parsed flags to the configs that they describe."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from models.adapters.csv import parse_pairs
from models.cleaning import CleaningConfig
from models.errors import UsageError
from models.ranking.config import RankingConfig
from models.records import MICROS_PER_DAY
from models.state import StateConfig
from pipeline.config import JobConfig
from pipeline.connectors.uris import is_connector, parse_sink
from pipeline.flags.values import optional_time, provider_names, rating_scale
from pipeline.inputs.reading import InputFormat

#: Keeps the key off the command line, where every process on the machine can read it.
USER_ID_KEY_VARIABLE: Final = "LIVELIST_USER_ID_KEY"

_Config = TypeVar("_Config")


def job_config(flags: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> JobConfig:
    """The job that parsed flags describe. Raises UsageError."""
    if not flags.input:
        raise UsageError("--input is needed: a file, a folder, a glob, a URL, or - for stdin")
    output, sinks = outputs(flags.output or [])
    if flags.missing_rating == "from_text" and flags.model == "none":
        raise UsageError(
            "--missing_rating=from_text needs the words' scores, which --model none switches off"
        )
    return checked(
        JobConfig,
        inputs=tuple(flags.input),
        items=tuple(flags.items or ()),
        output=output,
        sinks=sinks,
        k=flags.k,
        form=input_format(flags),
        cleaning=cleaning_config(flags, environment),
        state=checked(
            StateConfig, max_events=flags.state_size, ttl_micros=round(flags.state_ttl_days * MICROS_PER_DAY)
        ),
        ranking=checked(RankingConfig, exclude_seen=not flags.show_seen, diversity=flags.diversity),
        model=flags.model,
        topics=flags.topics,
        providers=provider_names(flags.providers),
        threads=flags.threads,
        accelerator=flags.accelerator,
        model_poll_seconds=flags.model_poll_seconds,
        canary_model=flags.canary_model,
        canary_share=flags.canary_share,
        now=optional_time(flags.now),
        emit_history=flags.emit_history,
        history_window_seconds=flags.history_window_seconds,
        trend_window_seconds=flags.trend_window_seconds,
        if_exists=flags.if_exists,
        allowed_lateness_seconds=flags.allowed_lateness_seconds,
        snapshot_every_seconds=flags.snapshot_every_seconds,
        reindex_every_seconds=flags.reindex_every_seconds,
        state_dir=flags.state_dir,
        rerank_at_drain=flags.rerank_at_drain,
    )


def outputs(given: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The one folder of the tables, and the sinks. Raises UsageError."""
    sinks = tuple(dict.fromkeys(output for output in given if is_connector(output)))
    folders = [output for output in given if output not in sinks]
    if not folders:
        more = ": what goes to a sink is made from them, and waits there while it is down" if sinks else ""
        raise UsageError(f"--output is needed: the folder of the tables{more}")
    if len(folders) > 1:
        raise UsageError(f"--output: expected one folder of the tables, got {' and '.join(folders)}")
    for sink in sinks:
        parse_sink(sink)
    return folders[0], sinks


def input_format(flags: argparse.Namespace) -> InputFormat:
    """How parsed flags say that inputs are read. Raises UsageError."""
    form = checked(
        InputFormat,
        name=flags.format,
        columns=parse_pairs("--map", flags.map or []),
        constants=parse_pairs("--set", flags.set or []),
        time_format=flags.time_format,
        max_record_bytes=flags.max_record_bytes,
    )
    form.adapter  # noqa: B018 - refuses a mapping that the format has no use for
    return form


def cleaning_config(flags: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> CleaningConfig:
    """The cleaning policies that parsed flags describe. Raises UsageError."""
    key = environment.get(USER_ID_KEY_VARIABLE) if flags.user_id_key is None else flags.user_id_key
    return checked(
        CleaningConfig,
        rating_scale=rating_scale(flags.rating_scale),
        max_text_chars=flags.max_text_chars,
        missing_item=flags.missing_item,
        missing_time=flags.missing_time,
        missing_text=flags.missing_text,
        missing_rating=flags.missing_rating,
        normalize_ratings=flags.normalize_ratings,
        content_duplicates=flags.content_duplicates == "drop",
        bursts=flags.bursts == "quarantine",
        user_id_key=None if key is None else key.encode(),
    )


def checked(config: Callable[..., _Config], **values: Any) -> _Config:
    """A config from values that people gave: its ValueError becomes a UsageError about the flag."""
    try:
        return config(**values)
    except ValueError as error:
        raise UsageError(f"--{error}") from None
