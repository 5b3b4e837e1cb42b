"""Kafka's offsets: what of a partition is done, and what a position says. No client here."""

from __future__ import annotations

from collections import deque


class Progress:
    """Of one partition: what was delivered, and up to where all of it is done."""

    def __init__(self) -> None:
        self.next = -1  # the offset after the last one delivered; -1: none yet
        self.committable = -1  # all before it is done; -1: none yet
        self._waiting: deque[int] = deque()
        self._done: set[int] = set()

    def delivered(self, offset: int) -> None:
        """One more, in the order of offsets."""
        if offset < self.next:  # it was rewound
            self._waiting.clear()
            self._done.clear()
        self.next = offset + 1
        self._waiting.append(offset)

    def done(self, offset: int) -> bool:
        """Whether `committable` moved. Offsets that were never delivered here change nothing."""
        if not self._waiting or not self._waiting[0] <= offset < self.next:
            return False
        self._done.add(offset)
        before = self.committable
        while self._waiting and self._waiting[0] in self._done:
            self.committable = self._waiting.popleft() + 1
            self._done.discard(self.committable - 1)
        return self.committable != before


def partition_key(topic: str, partition: int) -> str:
    """What a position says of a partition, and the key of `resume_from`."""
    return f"kafka:{topic}/{partition}"
