"""Every reason for which input is rejected, in one list, and the errors of a bad deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Table = Literal["dead_letters", "quarantine"]


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """Where rejected input with this code goes, what it means and what its sender can do."""

    table: Table
    meaning: str
    remedy: str


ERROR_CODES: Final[dict[str, ErrorCode]] = {
    # dead_letters: cannot be understood
    "invalid_utf8": ErrorCode("dead_letters", "the bytes are not UTF-8", "write the file as UTF-8"),
    "invalid_json": ErrorCode("dead_letters", "the line is not one JSON value", "write one JSON object a line"),
    "not_an_object": ErrorCode("dead_letters", "the JSON value is not an object", "write one JSON object a line"),
    "too_deep": ErrorCode("dead_letters", "the JSON is nested too deeply", "flatten the object"),
    "too_long": ErrorCode("dead_letters", "the record is longer than --max_record_bytes", "shorten it, or raise the limit"),
    "truncated_input": ErrorCode("dead_letters", "the compressed file ends early or is damaged", "send the file again"),
    "invalid_csv": ErrorCode("dead_letters", "the row does not have the columns of the header", "quote separators and line ends"),
    "missing_field": ErrorCode("dead_letters", "a field that this kind needs is absent", "send the field"),
    "wrong_type": ErrorCode("dead_letters", "a field has another type than the schema's", "see `livelist schema`"),
    "unknown_kind": ErrorCode("dead_letters", "the kind is not one of the schema's", "see `livelist schema`"),
    "invalid_number": ErrorCode("dead_letters", "a number is NaN or infinite", "leave the field out"),
    "invalid_time": ErrorCode("dead_letters", "the time is neither RFC 3339 nor an epoch", "send 2026-01-31T12:00:00Z or epoch seconds"),
    "invalid_id": ErrorCode("dead_letters", "an id is empty or longer than 512 characters", "send a short id"),
    "scoring_failed": ErrorCode("dead_letters", "the encoder could not score this text", "look at the text; its neighbours were scored"),
    # quarantine: understood, not trusted
    "rating_out_of_scale": ErrorCode("quarantine", "the rating is outside --rating_scale", "declare the scale, or correct the rating"),
    "time_before_1990": ErrorCode("quarantine", "the event is older than 1990", "check the time's unit"),
    "time_in_future": ErrorCode("quarantine", "the event is more than a day in the future", "check the sender's clock"),
    "late": ErrorCode("quarantine", "the event is older than --allowed_lateness_seconds", "raise the limit and replay"),
    "missing_rating": ErrorCode("quarantine", "no rating, and --missing_rating=drop", "choose another policy"),
    "missing_text": ErrorCode("quarantine", "no text, and --missing_text=drop", "choose another policy"),
    "missing_item": ErrorCode("quarantine", "no item, and --missing_item=quarantine", "send the item"),
    "missing_time": ErrorCode("quarantine", "no time, and --missing_time=quarantine", "send the time"),
    "burst_events": ErrorCode("quarantine", "200 or more events of one user within 10 s", "look for a script behind the user"),
    "burst_text": ErrorCode("quarantine", "one text of 40 characters or more on ten or more items", "look for a script behind the user"),
}  # fmt: skip


class LivelistError(Exception):
    """The base of errors shown as one readable line.

    LivelistError
    ├── UsageError          a wrong flag or argument (exit code 2)
    ├── InputError          an input that cannot be opened (exit code 3)
    ├── OutputError         an output that cannot be written (exit code 4)
    └── DeploymentError     a missing model, provider or package (exit code 5)
    """

    exit_code = 1


class UsageError(LivelistError):
    """A wrong flag or argument."""

    exit_code = 2


class InputError(LivelistError):
    """An input that is missing or cannot be opened."""

    exit_code = 3


class OutputError(LivelistError):
    """An output that cannot be written."""

    exit_code = 4


class DeploymentError(LivelistError):
    """A model, execution provider or package that is not there."""

    exit_code = 5


class BadRecord(Exception):
    """One record that is rejected: carries its error code and a reason for people."""

    def __init__(self, error_code: str, reason: str) -> None:
        super().__init__(reason)
        self.error_code = error_code
        self.reason = reason
