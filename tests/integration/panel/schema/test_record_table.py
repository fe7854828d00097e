"""The migrated database has the columns of the registry, and a client's role may read what is his to see.

Types and constraints are compared by ``alembic check`` in test_migrations.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from sqlalchemy import Engine, inspect, text

from domain.record_columns import COLUMNS, Reader, ValueSource, given_by, names, seen_by
from panel.schema.tables import metadata

MAY_READ = "SELECT has_column_privilege('panel_client', 'vps', :column, 'SELECT')"


def not_migrated(engine: Engine, table: str, columns: Iterable[str]) -> set[str]:
    """The columns that no migration made."""
    return set(columns) - {column["name"] for column in inspect(engine).get_columns(table)}


@pytest.mark.parametrize(
    ("table", "columns"),
    [("vps", names(COLUMNS)), ("orders_seen", names(given_by(ValueSource.ORDER)))],
    ids=["records", "orders"],
)
def test_every_column_was_migrated(panel: Engine, table: str, columns: tuple[str, ...]) -> None:
    assert not_migrated(panel, table, columns) == set()
    assert not_migrated(panel, table, (*columns, "forgotten")) == {"forgotten"}


def test_an_order_and_its_record_hold_a_value_alike() -> None:
    vps, orders = metadata.tables["vps"].c, metadata.tables["orders_seen"].c
    for column in given_by(ValueSource.ORDER):
        assert isinstance(vps[column.name].type, type(orders[column.name].type)), column.name


def test_a_client_s_role_may_read_what_the_client_sees(panel: Engine) -> None:
    with panel.connect() as connection:
        granted = {c: connection.scalar(text(MAY_READ), {"column": c}) for c in names(COLUMNS)}
    assert [column for column in names(seen_by(Reader.CLIENT)) if not granted[column]] == []
    assert not granted["fingerprint"], "what is granted to nobody is noticed"
