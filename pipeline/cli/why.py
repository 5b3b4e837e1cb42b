"""What feedback no longer speaks for an item: the same pure core as the job, asked about a few users."""

from __future__ import annotations

from collections.abc import Collection

from models.records import RankedItem
from pipeline.config import JobConfig
from pipeline.history import load_history


class Explainer:
    """Knows some users' views at the end of a run."""

    def __init__(self, config: JobConfig, users: Collection[str]) -> None:
        self._views = {view.user_id: view for view in load_history(config, users).views()}

    def lost_support(self, user_id: str, before: RankedItem, about: str | None) -> float:
        """What feedback on `about` gave an item of the earlier list, if it has turned negative; else 0."""
        spoken = next((one for one in self._views[user_id].interactions if one.item_id == about), None)
        if spoken is None or spoken.liking >= 0:
            return 0.0
        return sum(why.contribution for why in before.reasons if set(why.event_ids) & set(spoken.event_ids))
