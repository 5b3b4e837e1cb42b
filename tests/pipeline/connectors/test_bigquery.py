"""BigQuery's scripts against the oracle, run by DuckDB: see local_bigquery for what that cannot tell."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import OutputError
from models.table_columns import table_from_records
from pipeline.connectors.addresses import BigQueryDataset
from tests.pipeline.connectors.lists import Row, current, histories, made_list, table_of
from tests.pipeline.connectors.test_sinks import HISTORIES

if TYPE_CHECKING:
    from pipeline.connectors.bigquery import BigQuerySink
    from tests.pipeline.connectors.local_bigquery import LocalBigQuery

pytestmark = pytest.mark.postgres  # with the other sinks

ADDRESS = BigQueryDataset("my-project", "shop")


def made(address: BigQueryDataset = ADDRESS) -> tuple[BigQuerySink, LocalBigQuery]:
    """A sink to the stand-in."""
    for module in ("google.cloud.bigquery", "sqlglot"):
        pytest.importorskip(module, reason=f"{module} is missing: make test-all")
    from pipeline.connectors.bigquery import BigQuerySink
    from tests.pipeline.connectors.local_bigquery import LocalBigQuery

    local = LocalBigQuery("my-project", "shop")
    return BigQuerySink(address, local), local


def opened() -> tuple[BigQuerySink, LocalBigQuery]:
    """The same, opened."""
    sink, local = made()
    sink.open()
    return sink, local


def shown(local: LocalBigQuery) -> list[Row]:
    latest = local.rows("my-project.shop.recommendations_latest")
    columns = [latest[name].to_pylist() for name in ("user_id", "rank", "item_id", "state_version")]
    return sorted(zip(*columns, strict=True))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_order_any_batches_and_any_repeats_end_with_the_highest_version(data: st.DataObject) -> None:
    lists = data.draw(histories())
    arriving = data.draw(st.permutations([*lists, *data.draw(st.lists(st.sampled_from(lists)))]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arriving)), max_size=3)))
    sink, local = opened()
    for start, end in itertools.pairwise([0, *cuts, len(arriving)]):
        sink.write("recommendations", table_of(arriving[start:end]))
    assert shown(local) == current(lists)


def test_every_history_takes_its_rows_once_and_nothing_staged_is_left() -> None:
    sink, local = opened()
    for _ in range(2):
        for table, records in HISTORIES.items():
            sink.write(table, table_from_records(table, records, "run-1"))
    assert {table: len(local.rows(f"my-project.shop.{table}")) for table in HISTORIES} == dict.fromkeys(
        HISTORIES, 3
    )
    assert not [name for name in local.tables if "staged" in name]


def test_a_list_keeps_its_reasons() -> None:
    sink, local = opened()
    sink.write("recommendations", table_of([made_list("a", 1)]))
    latest = local.rows("my-project.shop.recommendations_latest")
    assert latest["reasons"].to_pylist()[0][0]["text"] == "you liked i1"


def test_every_column_says_what_it_holds() -> None:
    _, local = opened()
    latest = local.tables["my-project.shop.recommendations_latest"]
    assert all(field.description for field in latest.schema)
    assert latest.clustering_fields == ["user_id"]


def test_a_dataset_that_is_not_there_is_told_with_the_line_that_makes_it() -> None:
    sink, _ = made(BigQueryDataset("my-project", "other"))
    with pytest.raises(OutputError, match="bq mk my-project:other"):
        sink.open()
