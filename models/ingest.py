"""Bytes to trusted events, one record at a time: what the job's shells and `validate` both call."""

from __future__ import annotations

from typing import Final

from models.adapters.base import FeedbackAdapter, RawRecord, parse_event, parse_item
from models.cleaning import CleaningConfig, clean_event
from models.errors import BadRecord
from models.records import DeadLetter, FeedbackEvent, Item, Micros
from models.rejects import reject_bytes, reject_event, reject_fault, reject_fields

PARSE_STAGE: Final = "parse_feedback"
CLEAN_STAGE: Final = "clean_feedback"
ITEMS_STAGE: Final = "parse_items"


def parse_or_reject(
    adapter: FeedbackAdapter, record: RawRecord, config: CleaningConfig, now: Micros
) -> FeedbackEvent | DeadLetter:
    """The event in a raw record, or the row that says why there is none; never raises on content."""
    try:
        return parse_event(adapter, record, config.missing_time_code)
    except BadRecord as error:
        return _reject_record(PARSE_STAGE, error, adapter, record, now, config.user_id_key)


def clean_or_reject(event: FeedbackEvent, config: CleaningConfig, now: Micros) -> FeedbackEvent | DeadLetter:
    """The tidied event, or the row that says why it is incomplete or not trusted."""
    try:
        return clean_event(event, config, now)
    except BadRecord as error:
        return reject_event(CLEAN_STAGE, error, event, now, config.user_id_key)


def parse_item_or_reject(adapter: FeedbackAdapter, record: RawRecord, now: Micros) -> Item | DeadLetter:
    """The catalogue entry in a raw record, or the row that says why there is none."""
    try:
        return parse_item(adapter, record)
    except BadRecord as error:
        if record[3]:
            return reject_fault(ITEMS_STAGE, record, now)
        return reject_bytes(ITEMS_STAGE, error, record[0], record[1], now)


def _reject_record(
    stage: str, error: BadRecord, adapter: FeedbackAdapter, record: RawRecord, now: Micros, key: bytes | None
) -> DeadLetter:
    payload, position, header, fault = record
    if fault:
        return reject_fault(stage, record, now, key)
    try:
        # Parsing used the fields up, so they are read again: rejects are rare.
        fields = adapter.event_fields(payload, header)
    except BadRecord:
        return reject_bytes(stage, error, payload, position, now, key)
    return reject_fields(stage, error, fields, position, now, key)
