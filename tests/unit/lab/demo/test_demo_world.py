"""The demo's settings: its own, whole, and the same in a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.demo.world import CLUSTERS, CUSTOMERS, Keys, Places, environment_of, panel_settings
from panel.settings import Settings, load_settings

SERVERS = {
    "DATABASE_URL": "postgresql://panel:p@127.0.0.1:1/panel",
    "DATABASE_OWNER_URL": "postgresql://postgres:p@127.0.0.1:1/panel",
    "REDIS_URL": "redis://:p@127.0.0.1:2/0",
}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(1001, 1002, 1003, {name: 1010 + n for n, name in enumerate(CLUSTERS)}, tmp_path / "proxmox")
    for cluster in CLUSTERS:
        made.ca_file(cluster).parent.mkdir(parents=True)
        made.ca_file(cluster).write_text("an authority")
    return made


def comparable(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in Settings.model_fields}


def test_a_child_sees_the_same_settings(places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = panel_settings(places, Keys.make(), SERVERS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MAIN_SITE_URL=https://real.example\nBUDGET_DELETES_RUN=999\nJWT_ISSUER=real\n")
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert comparable(load_settings()) == comparable(settings)


def test_nothing_of_the_machine_leaks_in(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIN_SITE_URL", "https://real.example")
    monkeypatch.setenv("MAIN_SITE_FEED", "panel-api")
    monkeypatch.setenv("JWT_ISSUER", "real")
    settings = panel_settings(places, Keys.make(), SERVERS)
    assert settings.main_site_url == places.main_site_url
    assert (settings.main_site_feed, settings.jwt_issuer) == ("orders", "")


def test_the_proof_is_short_and_that_is_only_allowed_in_the_demo(places: Places) -> None:
    settings = panel_settings(places, Keys.make(), SERVERS)
    assert (settings.demo, settings.absence_proof_n, settings.absence_proof_t_s) == (True, 3, 15.0)


def test_keys_are_new_each_time_and_never_shown() -> None:
    keys, others = Keys.make(), Keys.make()
    values = [getattr(keys, name) for name in Keys.__slots__ if name != "proxmox_token_id"]
    assert len(set(values)) == len(values)
    assert keys.sync != others.sync
    assert not any(value in repr(keys) for value in values)


def test_the_two_sites_number_customers_differently() -> None:
    assert not {c.panel_id for c in CUSTOMERS} & {c.main_site_id for c in CUSTOMERS}
