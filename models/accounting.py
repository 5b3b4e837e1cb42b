"""Law 3: every record that was read is accounted for, exactly once.

    input = accepted (scored + unscored + without text + control) + duplicate + superseded
          + quarantined + dead-lettered

The counts are committed outputs of the stages, summed by the job, never attempted metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from models.tables import QualityRow

INPUT: Final = "input"
DUPLICATE: Final = "duplicate"
SUPERSEDED: Final = "superseded"
QUARANTINED: Final = "quarantined."  # followed by the error code
DEAD_LETTERED: Final = "dead_lettered."  # followed by the error code
NOTE: Final = "note."  # counts that are told beside the sum
ITEMS_READ: Final = "note.items_read"  # of the catalogue, those that are rejected or repeated included
ITEMS_REJECTED: Final = "note.items_rejected"
ITEMS_REPEATED: Final = "note.items_repeated"  # entries whose item_id another entry has
CHECK_PREFIX: Final = "accounting."
UNACCOUNTED: Final = "accounting.unaccounted"


@dataclass(frozen=True, slots=True)
class Accounting:
    """The books of one run."""

    counts: Mapping[str, int]  # code -> records

    @property
    def input(self) -> int:
        """Records read."""
        return self.counts.get(INPUT, 0)

    def total(self, prefix: str) -> int:
        """Records of all codes that start with `prefix`."""
        return sum(count for code, count in self.counts.items() if code.startswith(prefix))

    @property
    def unaccounted(self) -> int:
        """Records that are in no account; anything but 0 is a defect of the job."""
        parts = (count for code, count in self.counts.items() if code != INPUT and not code.startswith(NOTE))
        return self.input - sum(parts)

    def as_line(self) -> str:
        """The accounting in one line for people."""
        scored, unscored = self.counts.get("accepted.scored", 0), self.counts.get("accepted.unscored", 0)
        texts = f"{scored:,} scored" + (f" + {unscored:,} unscored" if unscored else "")
        without_text, control = (
            self.counts.get(f"accepted.{part}", 0) for part in ("without_text", "control")
        )
        parts = f"{texts} + {without_text:,} without text + {control:,} control"
        accepted = f"{self.total('accepted.'):,} accepted ({parts})"
        line = (
            f"{self.input:,} read = {accepted} + {self.counts.get(DUPLICATE, 0):,} duplicate "
            f"+ {self.counts.get(SUPERSEDED, 0):,} superseded + {self.total(QUARANTINED):,} quarantined "
            f"+ {self.total(DEAD_LETTERED):,} dead-lettered"
        )
        return line if not self.unaccounted else f"{line}; UNACCOUNTED: {self.unaccounted:,}"

    def notes(self) -> list[str]:
        """What is told beside the sum, in words for people, such as "12 imputed ratings"."""
        catalogue = (ITEMS_READ, ITEMS_REJECTED, ITEMS_REPEATED)
        noted = sorted(
            (code, count)
            for code, count in self.counts.items()
            if code.startswith(NOTE) and code not in catalogue and count
        )
        return [f"{count:,} {code.removeprefix(NOTE).replace('_', ' ')}" for code, count in noted]

    def catalogue_line(self) -> str:
        """What became of the catalogue, for people; empty where none was read."""
        read, rejected, repeated = (
            self.counts.get(code, 0) for code in (ITEMS_READ, ITEMS_REJECTED, ITEMS_REPEATED)
        )
        if not read:
            return ""
        line = f"catalogue: {read:,} read = {read - rejected - repeated:,} items"
        line += f" + {repeated:,} with an id of another" if repeated else ""
        return line + (f" + {rejected:,} rejected (see dead_letters)" if rejected else "")

    def commonest_reject(self) -> str | None:
        """The error code of most rejected records; None when nothing was rejected."""
        rejected = {
            code.split(".", 1)[1]: count
            for code, count in self.counts.items()
            if code.startswith((QUARANTINED, DEAD_LETTERED))
        }
        return max(sorted(rejected), key=rejected.__getitem__, default=None)

    def rows(self) -> list[QualityRow]:
        """The rows of the `quality` table; the last is what is unaccounted for, which must be 0."""
        told = [QualityRow(CHECK_PREFIX + code, float(count)) for code, count in sorted(self.counts.items())]
        return [*told, QualityRow(UNACCOUNTED, float(self.unaccounted), threshold=0.0)]


def from_rows(rows: Iterable[tuple[str, float]]) -> Accounting:
    """The books back from (check, value) of the `quality` table."""
    return Accounting(
        {
            check.removeprefix(CHECK_PREFIX): int(value)
            for check, value in rows
            if check.startswith(CHECK_PREFIX) and check != UNACCOUNTED
        }
    )
