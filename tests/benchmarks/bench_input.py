"""What do reading, judging and cleaning cost beside parsing the JSON alone?

Reads a stream of behaviour events and one of 90-word reviews, made with a fixed seed, by the
job's own functions in one core, and beside it, in the same run, the same lines by nothing but
`json.loads`. Prints microseconds a record of each step and the ratio of the whole to the baseline.

    python -m tests.benchmarks.bench_input --records 100000
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from models.records import FeedbackEvent
from models.text import clean_text, redact, text_hash, word_ids
from pipeline.inputs.reading import InputFormat, iterate_records, read_feedback

WORDS = [
    "the",
    "strings",
    "sound",
    "bright",
    "and",
    "warm",
    "but",
    "this",
    "cable",
    "broke",
    "after",
    "a",
    "week",
    "of",
    "use",
    "so",
    "I",
    "sent",
    "it",
    "back",
]


def write_events(path: Path, records: int, words: int) -> None:
    """Views, or reviews of so many words."""
    chance = random.Random(7)
    with path.open("w") as out:
        for number in range(records):
            event: dict[str, object] = {
                "event_id": f"e{number}",
                "user_id": f"u{chance.randrange(20_000)}",
                "kind": "review" if words else "view",
                "event_time": 1_700_000_000 + number,
                "item_id": f"i{chance.randrange(10_000)}",
            }
            if words:
                event["text"] = " ".join(chance.choices(WORDS, k=words))
            out.write(json.dumps(event) + "\n")


def micros_each(work: Iterable[object], records: int) -> float:
    """Microseconds a record to go through `work`."""
    start = time.perf_counter()
    for _ in work:
        pass
    return (time.perf_counter() - start) / records * 1e6


def measure(path: Path, records: int, words: int) -> None:
    """One stream, step by step."""
    write_events(path, records, words)
    lines = path.read_bytes().splitlines()
    baseline = micros_each(map(json.loads, lines), records)
    cut = micros_each(iterate_records([str(path)], InputFormat()), records)
    whole = micros_each(read_feedback([str(path)]), records)
    print(f"{records:,} {'reviews of ' + str(words) + ' words' if words else 'behaviour events'}")
    print(f"  json.loads alone      {baseline:7.2f} µs a record")
    print(f"  cut into records      {cut:7.2f}")
    ratio = f"{whole / baseline:.1f} times json.loads, {1e6 / whole:,.0f}/s"
    print(f"  read, parse and clean {whole:7.2f}  = {ratio}")
    if words:
        texts = [event.text for event in read_feedback([str(path)]) if isinstance(event, FeedbackEvent)]
        steps: tuple[Callable[[str], object], ...] = (clean_text, redact, word_ids, text_hash)
        for step in steps:
            each = micros_each(map(step, filter(None, texts)), records)
            print(f"    {step.__name__:19} {each:7.2f}")


def main() -> None:
    """Parse flags, measure both streams."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=100_000, help="lines of each stream (default 100000)")
    records = parser.parse_args().records
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder, "events.jsonl"), records, 0)
        measure(Path(folder, "reviews.jsonl"), records // 5, 90)


if __name__ == "__main__":
    main()
