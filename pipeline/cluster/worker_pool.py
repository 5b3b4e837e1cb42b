"""Starts a Python worker for every task manager that asks: one process each, with a state cache.

    python -m pipeline.cluster.worker_pool PORT LOG_FOLDER STATE_CACHE_MB

Beam's own pool gives workers no state cache and a pipe that nobody reads. A worker ends by itself when
this process is gone, however it went.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer


class WorkerPool(BeamFnExternalWorkerPoolServicer):
    """Beam's pool, but for how a worker is started."""

    logs = Path()
    cache_mb = 0

    def StartWorker(self, request: object, context: object) -> object:
        """One worker process; its output goes to a file of its own."""
        from apache_beam.portability.api import beam_fn_api_pb2

        worker_id, url = request.worker_id, request.control_endpoint.url  # type: ignore[attr-defined]
        log = self.logs / f"worker-{worker_id}.log"
        command = [sys.executable, "-m", "pipeline.cluster.worker", url, worker_id, str(self.cache_mb)]
        try:
            with log.open("ab") as out:
                started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=f"{command[0]}: {error}")
        self._worker_processes[worker_id] = started
        threading.Thread(target=started.wait, daemon=True).start()  # leaves no zombie
        return beam_fn_api_pb2.StartWorkerResponse()


def serve(port: int, logs: Path, cache_mb: int) -> None:
    """Serves until it is ended."""
    WorkerPool.logs, WorkerPool.cache_mb = logs, cache_mb
    _, server = WorkerPool.start(use_process=True, port=port)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
