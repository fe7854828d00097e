"""Which errors are the database's own, and which are the statement's."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, InternalError, OperationalError

from panel.sessions import is_away

AWAY = (
    "08006", "25006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03", "58030",
)  # fmt: skip
NOT_AWAY = (
    "0A000", "22003", "22023", "22P02", "23505", "23514", "25P02", "42501", "42883", "42P01", "54000", "P0001",
    "XX000",
)  # fmt: skip


def wrapped(error: BaseException, kind: type[DBAPIError] = InternalError, *, invalidated: bool = False) -> DBAPIError:
    return kind("SELECT 1", {}, error, connection_invalidated=invalidated)


@pytest.mark.parametrize("state", AWAY + NOT_AWAY)
def test_by_sqlstate(state: str) -> None:
    """Whatever class psycopg files it under."""
    assert is_away(wrapped(errors.lookup(state)("said"))) is (state in AWAY)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        pytest.param(wrapped(psycopg.OperationalError("refused"), OperationalError), True, id="no connection"),
        pytest.param(wrapped(psycopg.InterfaceError("closed"), InterfaceError), True, id="a connection that is closed"),
        pytest.param(wrapped(psycopg.DataError("NUL"), DataError), False, id="a value that never left"),
        pytest.param(wrapped(errors.InternalError_("x"), invalidated=True), True, id="and the connection is gone"),
        pytest.param(RuntimeError("x"), False, id="no error of a database"),
    ],
)
def test_by_what_no_server_said(error: BaseException, *, away: bool) -> None:
    assert is_away(error) is away
