"""What reaches beyond this machine: names on a hub, here one on loopback, and Weights & Biases, offline."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is missing: make test-all")
pytest.importorskip("transformers", reason="transformers is missing: make test-all")

from tests.models.training.tiny import make_rows, save_tiny_bert, write_rows

pytestmark = pytest.mark.train
ROOT = Path(__file__).resolve().parents[3]
NAME = "somebody/tiny-bert"
QUICK = (
    "--max_steps",
    "3",
    "--tasks",
    "topics",
    "--max_length",
    "16",
    "--threads",
    "1",
    "--accept_embedding",
)


class _Hub(BaseHTTPRequestHandler):
    """Answers as the hub does to who asks for one file of a repository."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._folder = folder
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        name, _, file = self.path.partition("/resolve/main/")
        path = self._folder / file
        found = name == f"/{NAME}" and file in {each.name for each in self._folder.iterdir()}
        content = path.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", f'"{len(content)}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a hub that has one small model."""
    folder = save_tiny_bert(tmp_path_factory.mktemp("hub"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(30)


def _train(base: str, tmp_path: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    data = write_rows(tmp_path / "reviews.jsonl", make_rows(120))
    arguments = ["train", "--base", base, "--data", str(data), "--output", str(tmp_path / "run"), *QUICK]
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *arguments, *flags], cwd=ROOT, text=True,
        capture_output=True, check=False, timeout=300,
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), **environment},
    )  # fmt: skip


def test_a_name_is_looked_up_on_the_hub(hub: str, tmp_path: Path) -> None:
    done = _train(NAME, tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    assert f"Fine-tuned from `{NAME}`" in (tmp_path / "run" / "README.md").read_text()


def test_a_hub_out_of_reach_is_one_clear_line(tmp_path: Path) -> None:
    done = _train("bert-base-uncased", tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert done.returncode == 5, done.stderr
    assert "cannot load an encoder from bert-base-uncased" in done.stderr
    assert "give a folder with config.json and model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_is_told_to_wandb_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is missing: make test-all")
    base = save_tiny_bert(tmp_path / "base")
    done = _train(str(base), tmp_path, "--wandb", "feedback", WANDB_MODE="offline", WANDB_SILENT="true")
    assert done.returncode == 0, done.stderr
    [log] = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    assert b"loss/topics" in content
    assert b"topics/macro_f1" in content
