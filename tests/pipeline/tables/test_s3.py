"""The job on an object store: input, tables and index in S3, over HTTP, on loopback."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from tests.pipeline.live.feedback_log import lists_found, run, shop_log, write_log

boto3 = pytest.importorskip("boto3", reason="boto3 is missing: make test-all")

pytestmark = [
    pytest.mark.cloud,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
BUCKET = "shop"


@pytest.fixture
def s3(endpoint: str) -> Iterator[Any]:
    """A client of an empty bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.close()


@pytest.fixture
def flags(endpoint: str) -> list[str]:
    return [
        f"--s3_endpoint_url={endpoint}",
        "--s3_access_key_id=id",
        "--s3_secret_access_key=secret",
        "--s3_region_name=us-east-1",
    ]


def keys(client: Any) -> list[str]:
    listed = client.list_objects_v2(Bucket=BUCKET)
    return sorted(found["Key"] for found in listed.get("Contents", []))


def put_log(client: Any, folder: Path) -> str:
    """The shop's log, half of it compressed; returns the local copy."""
    path = Path(write_log(folder / "events.jsonl", shop_log()))
    lines = path.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    client.put_object(Bucket=BUCKET, Key="in/a.jsonl", Body=b"".join(lines[:half]))
    client.put_object(Bucket=BUCKET, Key="in/b.jsonl.gz", Body=gzip.compress(b"".join(lines[half:])))
    return str(path)


def rows(client: Any, table: str) -> list[dict[str, Any]]:
    body = client.get_object(Bucket=BUCKET, Key=f"out/{table}/part-00000.parquet")["Body"].read()
    return pq.read_table(io.BytesIO(body)).to_pylist()


def test_a_run_from_and_to_a_bucket_makes_the_lists_of_a_local_one(
    s3: Any, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = put_log(s3, tmp_path)
    run(tmp_path / "local", local)
    command = ["run", f"--input=s3://{BUCKET}/in/", f"--output=s3://{BUCKET}/out", "--k=5", *flags]
    assert main(command) == 0
    assert "0 dead-lettered" in capsys.readouterr().out
    current = {(row["user_id"], row["rank"]): row["item_id"] for row in rows(s3, "recommendations_latest")}
    expected = {(row["user_id"], row["rank"]): row["item_id"] for row in lists_found(tmp_path / "local")}
    assert current == expected
    stored = keys(s3)
    assert "out/README.md" in stored
    assert "out/index/CURRENT" in stored
    assert [key for key in stored if ".staging" in key or "probe" in key] == []


def test_the_other_commands_read_a_bucket_too(
    s3: Any, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_log(s3, tmp_path)
    where = f"s3://{BUCKET}"
    assert main(["validate", "--json", f"--input={where}/in/*", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] == len(shop_log())
    assert main(["run", f"--input={where}/in/*", f"--output={where}/out", "--model=none", *flags]) == 0
    capsys.readouterr()
    assert main(["recommend", f"--output={where}/out", "--user=user01", "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["rank"] == 1
    assert main(["recommend", f"--output={where}/out", "--user=user0l", *flags]) == 3
    assert "did you mean user" in capsys.readouterr().err
    assert main(["run", f"--input={where}/in/*", f"--output={where}/out", "--if_exists=error", *flags]) == 4


def test_what_is_not_in_a_bucket_is_one_line(
    s3: Any, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", f"--input=s3://{BUCKET}/none.jsonl", *flags]) == 3
    assert main(["recommend", f"--output=s3://{BUCKET}/none", "--user=ann", *flags]) == 3
    local = write_log(tmp_path / "events.jsonl", shop_log(users=2))
    assert main(["run", f"--input={local}", "--output=s3://nobody-made-it/out", *flags]) == 4
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("runner:")]
    assert len(told) == 3
    assert "no file matches" in told[0]
    assert "make" in told[1] or "pass the --output" in told[1]
    assert "NoSuchBucket" in told[2]
