"""What ``run`` brings along: keys made once and kept privately, a database whose login is no owner."""

from __future__ import annotations

import stat
import traceback
from pathlib import Path

import psycopg
import pytest

from cli.environment import RUNNING, SECRETS, command_settings, read_overrides, with_overrides, write_overrides
from cli.errors import CommandError
from cli.serving.local_servers import missing_secrets, prepare_embedded
from cli.serving.seed_example import curl_calls, example_settings
from panel.settings import PLACEHOLDER_SYNC_KEY, load_settings
from runtime.paths import DataDirectory
from runtime.servers.embedded_postgres import EmbeddedPostgres
from tests.support.keys import random_key


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PANEL_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return DataDirectory(tmp_path / "data")


class TestSecrets:
    """Random, private, the same on the next run, and only for what is missing."""

    def test_made_once_and_kept(self, data: DataDirectory) -> None:
        first = missing_secrets(load_settings(), data)
        assert set(first) == {"VPS_SYNC_API_KEY", "JWT_SECRET", "OPS_API_KEY", "FLOWER_PASSWORD"}
        assert len(set(first.values())) == 4
        assert missing_secrets(load_settings(), data) == first
        assert stat.S_IMODE((data.root / SECRETS).stat().st_mode) == 0o600

    def test_what_is_set_is_left(self, data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VPS_SYNC_API_KEY", random_key())
        monkeypatch.setenv("JWT_JWKS_URL", "https://main/jwks")
        monkeypatch.setenv("JWT_ALGORITHMS", "RS256")
        assert set(missing_secrets(load_settings(), data)) == {"OPS_API_KEY", "FLOWER_PASSWORD"}

    def test_two_data_directories_share_nothing(self, data: DataDirectory, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        mine, theirs = missing_secrets(load_settings(), data), missing_secrets(load_settings(), DataDirectory(other))
        assert not set(mine.values()) & set(theirs.values())


def test_the_embedded_database_is_migrated_and_its_login_owns_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_SESSION_URL", "postgresql://localhost/elsewhere")
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    server.start()
    try:
        first = prepare_embedded(server)
        again = prepare_embedded(server)
        assert with_overrides(again).session_url == again["DATABASE_URL"], "all parts use the same server"
        with psycopg.connect(again["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT count(*) FROM vps").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DROP TABLE vps")
        # The password is new with each start; the old one opens nothing.
        assert first["DATABASE_URL"] != again["DATABASE_URL"]
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(first["DATABASE_URL"])
    finally:
        server.destroy()


def test_commands_prefer_what_is_set(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    running = data.root / RUNNING
    write_overrides(running, {"DATABASE_URL": "postgresql://localhost/run", "PORT": "6000"})
    assert stat.S_IMODE(running.stat().st_mode) == 0o600
    assert command_settings().database_url == "postgresql://localhost/run"
    assert command_settings().port == 6000
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/mine")
    assert command_settings().database_url == "postgresql://localhost/mine"
    assert read_overrides(data.root / "nothing.json") == {}


def test_a_damaged_file_of_secrets_is_named_and_not_quoted(data: DataDirectory) -> None:
    secret = random_key()
    (data.root / SECRETS).write_text(f'{{"JWT_SECRET": "{secret}"', encoding="ascii")  # as a full disk leaves it
    with pytest.raises(CommandError, match=r"secrets\.json is damaged") as caught:
        missing_secrets(load_settings(), data)
    assert secret[:8] not in "".join(traceback.format_exception(caught.value))


class TestSeedExample:
    """The guide's example: its key, and nothing of a real main site."""

    @pytest.mark.usefixtures("data")
    def test_its_settings_stand_by_themselves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MAIN_SITE_URL", "https://production.example")
        monkeypatch.setenv("MAIN_SITE_API_KEY", random_key())
        monkeypatch.setenv("USER_ID_SPACE", "mapped")
        monkeypatch.setenv("JWT_JWKS_URL", "https://production.example/jwks")
        monkeypatch.setenv("JWT_ALGORITHMS", "RS256")
        settings = with_overrides(example_settings())
        assert settings.vps_sync_api_key.get_secret_value() == PLACEHOLDER_SYNC_KEY
        assert (settings.main_site_url, settings.proxmox_clusters, settings.jwt_jwks_url) == ("", [], "")
        assert settings.jwt_algorithms == ("HS256",)

    def test_four_calls(self) -> None:
        calls = dict(curl_calls(5050, "the-token"))
        assert len(calls) == 4
        assert all("http://localhost:5050/api/vps" in command for command in calls.values())
        assert [PLACEHOLDER_SYNC_KEY in command for command in calls.values()] == [True, True, True, False]
        assert "Bearer the-token" in calls["4. The client's list"]
