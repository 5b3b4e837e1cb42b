"""The flags of a job, with units in their names and the defaults of the configs that they become.

No Beam here: `livelist run --help` and the tests of flags need none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from models.adapters import FORMATS
from models.cleaning import CleaningConfig
from models.ranking.config import RankingConfig
from models.records import MICROS_PER_DAY
from models.state import StateConfig
from pipeline.config import IF_EXISTS, JobConfig
from pipeline.flags.parsed import USER_ID_KEY_VARIABLE
from pipeline.flags.values import count, gpu_type, not_negative, port_number, positive_float, positive_int

_JOB: Final = JobConfig(inputs=("-",), output="-")
_CLEANING: Final = CleaningConfig()
_STATE: Final = StateConfig()
_RANKING: Final = RankingConfig()


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
        type=positive_int,
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
        type=positive_int,
        default=_CLEANING.max_text_chars,
        metavar="CHARS",
        help="longer texts keep their first and last half (default: %(default)s)",
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
        type=positive_int,
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
        type=positive_int,
        default=_JOB.history_window_seconds,
        metavar="SECONDS",
        help="window of --emit_history (default: %(default)s)",
    )
    add(
        "--trend_window_seconds",
        type=positive_int,
        default=_JOB.trend_window_seconds,
        metavar="SECONDS",
        help="window of trends/ and alerts/ (default: %(default)s)",
    )


def _add_scoring_flags(parser: argparse.ArgumentParser) -> None:
    add_scorer_flags(parser, "; none: score no texts")


def add_scorer_flags(parser: argparse.ArgumentParser, without: str = "") -> None:
    """The flags of the encoder; `without` tells of a --model that is none, where there may be none."""
    add = parser.add_argument_group("scoring").add_argument
    add(
        "--model",
        metavar="FOLDER",
        help=f"an exported model, or where `livelist model publish` puts models{without} "
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
        type=count,
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
        type=positive_int,
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
        type=count,
        metavar="SECONDS",
        help="events so much older than the newest: quarantine (default: --state_ttl_days; endless: none)",
    )


def _add_following_flags(parser: argparse.ArgumentParser) -> None:
    add = _endless_runs(parser).add_argument
    add(
        "--streaming",
        "--follow",
        action="store_true",
        help="two names of one flag: follow --input until it is stopped (default: read it once)",
    )
    add(
        "--run_for_seconds",
        type=positive_float,
        metavar="SECONDS",
        help="drain by itself after following for this time (default: never)",
    )
    add(
        "--metrics_port",
        type=port_number,
        metavar="PORT",
        help="of Prometheus metrics, http://HOST:PORT/metrics; 0: a free one, which is told (default: none)",
    )
    add(
        "--metrics_host",
        default="127.0.0.1",
        metavar="HOST",
        help="where they listen; in a container 0.0.0.0 (default: %(default)s, this machine)",
    )
    add(
        "--log_format",
        choices=("text", "json"),
        default="text",
        help="of what is logged on standard error (default: %(default)s)",
    )


def _add_endless_flags(parser: argparse.ArgumentParser) -> None:
    add = _endless_runs(parser).add_argument
    add(
        "--snapshot_every_seconds",
        type=positive_float,
        default=_JOB.snapshot_every_seconds,
        metavar="SECONDS",
        help="recommendations_latest/ is rewritten (default: %(default)g)",
    )
    add(
        "--reindex_every_seconds",
        type=not_negative,
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
        type=gpu_type,
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
