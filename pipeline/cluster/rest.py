"""Flink's REST interface, as far as it is needed."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

from models.errors import DeploymentError

_TIMEOUT_SECONDS: Final = 10.0
_PYTHON_TRACE: Final = "Traceback (most recent call last):"
_PYTHON_EXCEPTION: Final = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
_END_OF_TIME: Final = 2**63 - 1  # Flink's last watermark


class FlinkRest:
    """One cluster's interface. Every call raises DeploymentError where the cluster does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET."""
        return self._call("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a POST."""
        return self._call("POST", path, body)

    def task_managers(self) -> list[dict[str, Any]]:
        """Those that are registered."""
        found: list[dict[str, Any]] = self.get("/taskmanagers")["taskmanagers"]
        return found

    def jobs(self) -> list[dict[str, Any]]:
        """Every job it knows, newest first: jid, name, state, start-time ..."""
        found: list[dict[str, Any]] = self.get("/jobs/overview")["jobs"]
        return sorted(found, key=lambda job: -int(job["start-time"]))

    def metric(self, path: str, name: str) -> float | None:
        """One metric; None where it is not there yet."""
        found: Any = self.get(f"{path}/metrics?get={name}")
        try:
            return float(found[0]["value"])
        except (LookupError, ValueError, TypeError):
            return None

    def all_is_read(self, job: str) -> bool:
        """Whether every step of a job has been told that nothing more will come: its sources have ended."""
        ends: list[bool] = []
        for vertex in self.get(f"/jobs/{job}")["vertices"]:
            told: Any = self.get(f"/jobs/{job}/vertices/{vertex['id']}/watermarks")
            ends += [int(each["value"]) == _END_OF_TIME for each in told]
        return bool(ends) and all(ends)

    def completed_checkpoints(self, job: str) -> int:
        """Of this attempt to run a job and those before it."""
        return int(self.get(f"/jobs/{job}/checkpoints")["counts"]["completed"])

    def cancel(self, job: str) -> None:
        """Ends a job, keeping its last checkpoint."""
        self._call("PATCH", f"/jobs/{job}?mode=cancel", None)

    def stop_with_savepoint(self, job: str, folder: str, seconds: float) -> str:
        """Takes a savepoint, cancels the job, returns the savepoint's path. Raises DeploymentError."""
        asked = self.post(f"/jobs/{job}/savepoints", {"target-directory": folder, "cancel-job": True})
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            told = self.get(f"/jobs/{job}/savepoints/{asked['request-id']}")
            if told["status"]["id"] == "COMPLETED":
                done = told["operation"]
                if "location" in done:
                    return str(done["location"])
                why = done.get("failure-cause", {}).get("stack-trace", "no reason given")
                raise DeploymentError(f"the savepoint failed, the job runs on: {root_cause(why)}")
            time.sleep(0.2)
        raise DeploymentError(f"the savepoint was not done within {seconds:.0f} s; the job runs on")

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, method=method)
        asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=_TIMEOUT_SECONDS) as answer:
                read: dict[str, Any] = json.loads(answer.read() or b"{}")
                return read
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace")
            raise DeploymentError(
                f"Flink refused {method} {path}: {error.code} {root_cause(told)}"
            ) from error
        except (OSError, ValueError) as error:
            raise DeploymentError(f"Flink does not answer at {self.url}: {error}") from error


def root_cause(trace: str) -> str:
    """The innermost message of a stack trace, of Java or of a Python worker's in one, on one line."""
    lines = [line.strip() for line in trace.replace("\\n", "\n").splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    told = causes[-1] if causes else (lines[0] if lines else "no reason given")
    if told.endswith(_PYTHON_TRACE):
        told = _python_cause(lines) or told
    return told[:400]


def _python_cause(lines: Sequence[str]) -> str:
    """The exception that ends the last Python traceback, before Java's frames go on."""
    begin = max(number for number, line in enumerate(lines) if line.endswith(_PYTHON_TRACE))
    found = ""
    for line in lines[begin + 1 :]:
        if line.startswith(("at ", "... ")):
            break
        if _PYTHON_EXCEPTION.match(line):
            found = line
    return found
