"""What a run would reject in its inputs and why, without running the job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from models.cleaning import CleaningConfig
from models.errors import ERROR_CODES
from models.records import DeadLetter, FeedbackEvent, Micros
from pipeline.inputs.reading import InputFormat, read_feedback, read_items

#: So many rejects of each code are kept as examples.
EXAMPLES_PER_CODE: Final = 3


@dataclass(slots=True)
class ValidationReport:
    """What was found in the inputs; law 3 holds: `records` = `accepted` + all of `rejected`."""

    records: int = 0  # of feedback, faults of the reader included
    accepted: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # of accepted events
    with_text: int = 0
    with_rating: int = 0
    users: int = 0  # distinct, of accepted events
    items: int = 0  # distinct, named by accepted events
    first_time: Micros | None = None
    last_time: Micros | None = None
    repeated_ids: int = 0  # events whose (user, event_id) came before: copies or edits
    rejected: Counter[str] = field(default_factory=Counter)  # error code -> records
    examples: dict[str, list[DeadLetter]] = field(default_factory=dict)  # error code -> the first few
    catalogue: int = 0  # items read from the catalogue
    catalogue_rejected: Counter[str] = field(default_factory=Counter)
    catalogue_repeated: int = 0  # entries whose item_id came before

    @property
    def is_clean(self) -> bool:
        """Whether nothing was rejected."""
        return not self.rejected and not self.catalogue_rejected

    def table_of(self, code: str) -> str:
        """The table that rejects of `code` go to."""
        return ERROR_CODES[code].table


def validate(
    inputs: Iterable[str],
    items: Iterable[str] = (),
    form: InputFormat | None = None,
    cleaning: CleaningConfig | None = None,
    now: Micros | None = None,
) -> ValidationReport:
    """Reads all inputs as the job would, and reports; raises InputError where one cannot be opened.

    Duplicates and bursts are not looked for: they depend on a user's whole set of events.
    """
    report = ValidationReport()
    seen: set[tuple[str, str]] = set()
    users: set[str] = set()
    named: set[str] = set()
    for read in read_feedback(inputs, form, cleaning, now):
        report.records += 1
        if isinstance(read, DeadLetter):
            _reject(report, report.rejected, read)
            continue
        _accept(report, read)
        report.repeated_ids += (read.user_id, read.event_id) in seen
        seen.add((read.user_id, read.event_id))
        users.add(read.user_id)
        if read.item_id is not None:
            named.add(read.item_id)
    report.users, report.items = len(users), len(named)
    if items := list(items):
        _validate_items(report, items, form, now)
    return report


def _accept(report: ValidationReport, event: FeedbackEvent) -> None:
    report.accepted += 1
    report.kinds[event.kind] += 1
    report.with_text += event.text is not None
    report.with_rating += event.rating is not None
    time = event.event_time
    report.first_time = time if report.first_time is None else min(report.first_time, time)
    report.last_time = time if report.last_time is None else max(report.last_time, time)


def _reject(report: ValidationReport, counts: Counter[str], row: DeadLetter) -> None:
    counts[row.error_code] += 1
    kept = report.examples.setdefault(row.error_code, [])
    if len(kept) < EXAMPLES_PER_CODE:
        kept.append(row)


def _validate_items(
    report: ValidationReport, items: list[str], form: InputFormat | None, now: Micros | None
) -> None:
    seen: set[str] = set()
    for read in read_items(items, form, now):
        if isinstance(read, DeadLetter):
            _reject(report, report.catalogue_rejected, read)
        else:
            report.catalogue += 1
            report.catalogue_repeated += read.item_id in seen
            seen.add(read.item_id)
