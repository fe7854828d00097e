"""A PostgreSQL, or a pooler, that refuses is not one that is away, whatever language it says so in."""

from __future__ import annotations

import pytest

from tests.integration.cli.conftest import PanelSync
from tests.support.stand_ins.fake_postgres import refusing_postgres

PASSWORD = "hunter2hunter2"

REFUSALS = [
    ("28P01", "ВАЖНО", 'пользователь "panel" не прошёл проверку подлинности (по паролю)'),
    ("28000", "ВАЖНО", "в pg_hba.conf нет записи для компьютера"),
    ("3D000", "ВАЖНО", 'база данных "panel" не существует'),
    ("53300", "FATAL", "sorry, too many clients already"),
    ("57P03", "ВАЖНО", "система баз данных запускается"),
    ("08P01", "FATAL", "no such database: panel"),
    ("58000", "FATAL", "server login has been failing, try again later (server_login_retry)"),
]


@pytest.mark.parametrize(("sqlstate", "severity", "sentence"), REFUSALS, ids=[state for state, _, _ in REFUSALS])
def test_what_the_server_says_is_shown(bare: PanelSync, sqlstate: str, severity: str, sentence: str) -> None:
    with refusing_postgres(sqlstate, severity, f"{sentence}; your password was {PASSWORD}\nhere") as port:
        url = f"postgresql://panel:{PASSWORD}@127.0.0.1:{port}/panel"
        said = bare("runs", DATABASE_URL=url)
        doctor = bare("doctor", DATABASE_URL=url)
    assert said.code == 2
    assert sentence in said.err
    assert "can't be reached" not in said.err + doctor.out
    assert said.err.count("\n") == 1
    assert doctor.code == 1
    assert PASSWORD not in said.err + said.out + doctor.err + doctor.out


def test_where_nobody_is_nobody_can_be_reached(bare: PanelSync) -> None:
    said = bare("runs", DATABASE_URL=f"postgresql://panel:{PASSWORD}@127.0.0.1:1/panel")
    assert "it can't be reached" in said.err
