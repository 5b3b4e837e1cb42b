"""Runs parts of the tests beside one another, since those on a cluster mostly wait.

    python -m tests.side_by_side "-m flink" "-m 'train and not flink'"

Each argument is what one pytest gets. The first one's output is shown as it comes, the others' after it, in
their order; the exit code is 0 where all passed, else 1.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Set for each part, whose end then does not tell of tests that another part runs.
PARTS: Final = "LIVELIST_TEST_PARTS"


def run_parts(parts: Sequence[str]) -> int:
    """0 where all passed, else 1; a part that a signal ended has not."""
    first, *others = parts
    with tempfile.TemporaryDirectory() as folder:
        waiting = [(_started(part, Path(folder, str(number))), number) for number, part in enumerate(others)]
        codes = [_started(first).wait()]
        for process, number in waiting:
            codes.append(process.wait())
            print(f"\n== {others[number]}", flush=True)
            sys.stdout.write(Path(folder, str(number)).read_text(errors="replace"))
    return int(any(codes))


def _started(part: str, output: Path | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", *shlex.split(part)]
    environment = os.environ | {PARTS: "1"}
    if output is None:
        return subprocess.Popen(command, env=environment)
    with output.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(run_parts(sys.argv[1:]))
