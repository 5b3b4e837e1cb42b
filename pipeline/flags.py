"""The flags of a job, with units in their names and the defaults of the configs that they become.

No Beam here: `livelist run --help` and the tests of flags need none.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from models.adapters import FORMATS
from models.adapters.csv import parse_pairs
from models.cleaning import CleaningConfig
from models.errors import BadRecord, UsageError
from models.ranking.config import RankingConfig
from models.records import MICROS_PER_DAY, Micros
from models.state import StateConfig
from models.times import parse_time
from pipeline.config import IF_EXISTS, JobConfig
from pipeline.connectors.uris import is_connector, parse_sink
from pipeline.reading import InputFormat

#: Keeps the key off the command line, where every process on the machine can read it.
USER_ID_KEY_VARIABLE: Final = "LIVELIST_USER_ID_KEY"

_JOB: Final = JobConfig(inputs=("-",), output="-")
_CLEANING: Final = CleaningConfig()
_STATE: Final = StateConfig()
_RANKING: Final = RankingConfig()

_Config = TypeVar("_Config")


def add_job_flags(parser: argparse.ArgumentParser) -> None:
    """Every flag of a job; none that Beam has."""
    add_flags(parser, *(name for name in GROUPS if name != "following"))


def add_flags(parser: argparse.ArgumentParser, *groups: str) -> None:
    """The flags of some GROUPS, each under its group's title."""
    for name in groups:
        GROUPS[name](parser)


def _add_input_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("input").add_argument
    add(
        "--input",
        action="append",
        metavar="PATH",
        help="feedback: file, folder, glob, URL, or - (stdin); repeatable",
    )
    add(
        "--items",
        action="append",
        metavar="PATH",
        help="the catalogue, likewise (default: what the feedback mentions)",
    )
    add("--format", choices=FORMATS, default=_JOB.form.name, help="of both (default: %(default)s)")
    add("--map", action="append", metavar="FIELD=COLUMN", help="csv: which column holds a field; repeatable")
    add("--set", action="append", metavar="FIELD=VALUE", help="csv: the same value for every row; repeatable")
    add(
        "--time_format",
        default="",
        metavar="FORMAT",
        help="csv: how event_time is written, as in '%%d/%%m/%%Y %%H:%%M' (default: RFC 3339 or epoch)",
    )
    add(
        "--max_record_bytes",
        type=_positive_int,
        default=_JOB.form.max_record_bytes,
        metavar="BYTES",
        help="longer records go to dead_letters (default: %(default)s)",
    )


def _add_cleaning_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        "cleaning: each decision is counted, and listed with its reason"
    ).add_argument
    add(
        "--rating_scale", default="1:5", metavar="LOW:HIGH", help="outside: quarantine (default: %(default)s)"
    )
    add(
        "--missing_rating",
        choices=("none", "drop", "mean", "median", "mode", "interpolate", "from_text"),
        default=_CLEANING.missing_rating,
        help="none: the words decide (default); drop: quarantine; else the rating is imputed",
    )
    add(
        "--normalize_ratings",
        choices=("none", "mean", "zscore"),
        default=_CLEANING.normalize_ratings,
        help="per user (default: %(default)s)",
    )
    add(
        "--missing_text",
        choices=("keep", "drop"),
        default=_CLEANING.missing_text,
        help="of a review or comment; drop: quarantine (default: %(default)s)",
    )
    for name, what in (("item", "of a kind that needs one"), ("time", "of any event")):
        add(
            f"--missing_{name}",
            choices=("dead_letters", "quarantine"),
            default=getattr(_CLEANING, f"missing_{name}"),
            help=f"{what}: where it goes (default: %(default)s)",
        )
    add(
        "--max_text_chars",
        type=_positive_int,
        default=_CLEANING.max_text_chars,
        metavar="CHARS",
        help="longer texts are cut (default: %(default)s)",
    )
    add(
        "--content_duplicates",
        choices=("drop", "keep"),
        default="drop" if _CLEANING.content_duplicates else "keep",
        help="same user, item, kind and text: the smallest event_id stands (default: %(default)s)",
    )
    add(
        "--bursts",
        choices=("quarantine", "keep"),
        default="quarantine" if _CLEANING.bursts else "keep",
        help="200 events in 10 s, or one text on ten items (default: %(default)s)",
    )
    add(
        "--user_id_key",
        metavar="KEY",
        help=f"user ids become HMAC-SHA256 pseudonyms (default: raw ids); better set {USER_ID_KEY_VARIABLE}",
    )


def _add_list_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("lists").add_argument
    add(
        "--k",
        type=_positive_int,
        default=_JOB.k,
        metavar="PLACES",
        help="places in a list (default: %(default)s)",
    )
    add(
        "--show_seen",
        action="store_true",
        help="list items that the user already has feedback on (default: they are left out)",
    )
    add(
        "--diversity",
        type=float,
        default=_RANKING.diversity,
        metavar="SHARE",
        help="share of the score that an item may lose for resembling those above it (default: %(default)s)",
    )


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add(
        "--output",
        action="append",
        metavar="FOLDER",
        help="folder of the tables; endless runs: sinks besides, by URI (kafka://, pubsub://, postgresql://, "
        "delta://, bigquery://); repeatable",
    )
    add(
        "--if_exists",
        choices=IF_EXISTS,
        default=_JOB.if_exists,
        help="when the folder holds tables of an earlier run (default: %(default)s)",
    )
    add("--emit_history", action="store_true", help="also one list per user and window, marked as hindsight")
    add(
        "--history_window_seconds",
        type=_positive_int,
        default=_JOB.history_window_seconds,
        metavar="SECONDS",
        help="window of --emit_history (default: %(default)s)",
    )
    add(
        "--trend_window_seconds",
        type=_positive_int,
        default=_JOB.trend_window_seconds,
        metavar="SECONDS",
        help="window of trends/ and alerts/ (default: %(default)s)",
    )


def _add_scoring_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("scoring").add_argument
    add(
        "--model",
        metavar="FOLDER",
        help="an exported model, or where `livelist model publish` puts models; none: score no texts "
        "(default: the shipped one)",
    )
    add("--topics", metavar="FILE", help="YAML of topics and intents (default: the shipped one)")
    add(
        "--providers",
        default=",".join(_JOB.providers),
        metavar="NAMES",
        help="of ONNX Runtime, comma-separated; a missing one is an error (default: %(default)s)",
    )
    add(
        "--threads",
        type=_count,
        default=_JOB.threads,
        help="of the encoder; 0: one a core (default: %(default)s)",
    )


def _add_canary_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("newer models").add_argument
    add(
        "--model_poll_seconds",
        type=positive_float,
        default=_JOB.model_poll_seconds,
        metavar="SECONDS",
        help="how often a published --model is looked at (default: %(default)g)",
    )
    add(
        "--canary_model",
        metavar="FOLDER",
        help="a model that reads a share of the texts besides and is compared (default: none)",
    )
    add(
        "--canary_share",
        type=float,
        default=_JOB.canary_share,
        metavar="SHARE",
        help="of the texts, chosen by their hash (default: %(default)g)",
    )


def _add_state_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("state").add_argument
    add(
        "--state_size",
        type=_positive_int,
        default=_STATE.max_events,
        metavar="EVENTS",
        help="the newest events kept of a user (default: %(default)s)",
    )
    add(
        "--state_ttl_days",
        type=positive_float,
        default=_STATE.ttl_micros / MICROS_PER_DAY,
        metavar="DAYS",
        help="older events no longer count (default: %(default)g)",
    )


def _add_time_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("time").add_argument
    add("--now", metavar="TIME", help="the ranking clock (default: the newest accepted event_time)")
    add(
        "--allowed_lateness_seconds",
        type=_count,
        metavar="SECONDS",
        help="older events go to quarantine (default: --state_ttl_days)",
    )


def _add_following_flags(parser: argparse.ArgumentParser) -> None:
    add = _endless_runs(parser).add_argument
    add(
        "--streaming",
        "--follow",
        action="store_true",
        help="follow --input until it is stopped (default: read it once)",
    )
    add(
        "--run_for_seconds",
        type=positive_float,
        metavar="SECONDS",
        help="with --streaming: drain by itself after following for this time (default: never)",
    )
    add(
        "--metrics_port",
        type=_count,
        metavar="PORT",
        help="with --streaming: Prometheus metrics at http://127.0.0.1:PORT/metrics (default: none)",
    )
    add(
        "--log_format",
        choices=("text", "json"),
        default="text",
        help="with --streaming: of what is logged on standard error (default: %(default)s)",
    )


def _add_endless_flags(parser: argparse.ArgumentParser) -> None:
    add = _endless_runs(parser).add_argument
    add(
        "--refresh_every_seconds",
        type=positive_float,
        default=_JOB.refresh_every_seconds,
        metavar="SECONDS",
        help="at most one list a user in this time (default: %(default)g)",
    )
    add(
        "--snapshot_every_seconds",
        type=positive_float,
        default=_JOB.snapshot_every_seconds,
        metavar="SECONDS",
        help="recommendations_latest/ is rewritten (default: %(default)g)",
    )
    add(
        "--reindex_every_seconds",
        type=_not_negative,
        default=_JOB.reindex_every_seconds,
        metavar="SECONDS",
        help="the item index is learned anew; 0: never (default: %(default)g)",
    )
    add(
        "--state_dir",
        metavar="FOLDER",
        help="what a restart goes on from: checkpoints, and what was received (default: .state in --output)",
    )
    add(
        "--rerank_at_drain",
        action="store_true",
        help="before the end, score anew what an older model has read, and make the lists anew that an older "
        "index has ranked (default: they stand)",
    )


def _add_dataflow_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("Dataflow, besides Beam's own options").add_argument
    add(
        "--accelerator",
        type=_gpu,
        default=_JOB.accelerator,
        metavar="TYPE",
        help="the GPU of the workers that score, with --providers cuda (default: %(default)s)",
    )


def _endless_runs(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Their one group, begun by whoever comes first."""
    title = "endless runs"
    begun = next((group for group in parser._action_groups if group.title == title), None)
    about = "--input is a folder, glob or file of JSON lines that grows; Ctrl-C or SIGTERM drains"
    return begun or parser.add_argument_group(title, about)


#: Group -> what adds its flags, in the order of `livelist run --help`. A flag is in one group, and a
#: command takes the groups that it needs. "following" is for command lines: Beam has a `--streaming` too.
GROUPS: Final[dict[str, Callable[[argparse.ArgumentParser], None]]] = {
    "input": _add_input_flags,
    "output": _add_output_flags,
    "lists": _add_list_flags,
    "cleaning": _add_cleaning_flags,
    "scoring": _add_scoring_flags,
    "canary": _add_canary_flags,
    "state": _add_state_flags,
    "time": _add_time_flags,
    "following": _add_following_flags,
    "endless": _add_endless_flags,
    "dataflow": _add_dataflow_flags,
}
#: The groups that only a run has a use for: lists do not depend on them.
RUN_GROUPS: Final = ("output", "canary", "following", "endless", "dataflow")


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
        now=_micros(flags.now),
        emit_history=flags.emit_history,
        history_window_seconds=flags.history_window_seconds,
        trend_window_seconds=flags.trend_window_seconds,
        if_exists=flags.if_exists,
        allowed_lateness_seconds=flags.allowed_lateness_seconds,
        refresh_every_seconds=flags.refresh_every_seconds,
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


def _micros(text: str | None) -> Micros | None:
    if text is None:
        return None
    try:
        return parse_time(text, "--now")
    except BadRecord as error:
        raise UsageError(error.reason) from None


def _gpu(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,62}", text):
        raise argparse.ArgumentTypeError(f"expected a type such as nvidia-l4, got {text!r}")
    return text


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def _not_negative(text: str) -> float:
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
