"""What a process and its children take of this machine, from Linux's /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Up to now."""

    cpu_seconds: float  # of the process and its living children
    resident: float  # bytes, of the process and its living children
    machine_seconds: float  # of all processors, whoever used them


def usage_of(pid: int) -> Usage:
    """Zeros where the system does not tell."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu, resident = 0.0, 0.0
    for stat in _family(pid):
        cpu += (int(stat[11]) + int(stat[12])) / ticks  # user and system time
        resident += int(stat[21]) * page
    return Usage(cpu, resident, _machine_ticks() / ticks)


def _family(pid: int) -> list[list[str]]:
    """The fields of /proc/PID/stat behind the name, of a process and all that descend from it."""
    found: dict[int, list[str]] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        found[int(entry.parent.name)] = fields
        children[int(fields[1])].append(int(entry.parent.name))
    family, pending = [], [pid]
    while pending:
        one = pending.pop()
        if one in found:
            family.append(found[one])
        pending += children[one]
    return family


def _machine_ticks() -> int:
    """Busy time of all processors."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return 0
    return user + nice + system + irq + softirq + steal
