"""What the settings write into the URLs of Redis and PostgreSQL."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from panel.server_urls import authorities, redis_tls, verified_postgres_url, verified_redis_url
from panel.settings import SettingsError, load_settings

CA = Path("/etc/panel sync/ca.pem")
QUOTED = "%2Fetc%2Fpanel%20sync%2Fca.pem"


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u:p@db.internal/panel", "verify-full"),
        ("postgresql://u:p@10.0.0.7:5432/panel", "verify-full"),
        ("postgresql://u:p@[fd00::7]:5432/panel", "verify-full"),
        ("postgresql://u:p@/panel?host=db.internal", "verify-full"),
        ("postgresql://u:p@/panel?host=127.0.0.1,db.internal", "verify-full"),
        ("postgresql://u:p@/panel?host=db.internal&host=127.0.0.1", "verify-full"),
        ("postgresql://u:p@/panel?hostaddr=10.0.0.7", "verify-full"),
        ("postgresql://u:p@localhost/panel?hostaddr=10.0.0.7", "verify-full"),
        ("postgresql://u:p@localhost/panel?hostaddr=127.0.0.1,10.0.0.7", "verify-full"),
        ("postgresql:///panel?service=prod", "verify-full"),
        ("postgresql://u:p@localhost/panel?hostaddr=127.0.0.1", None),
        ("postgresql://u:p@localhost/panel", None),
        ("postgresql://u:p@127.0.0.1:5432/panel", None),
        ("postgresql://u:p@[::1]/panel", None),
        ("postgresql:///panel?host=/run/postgresql", None),
        ("postgresql:///panel", None),
        ("postgresql://u:p@db.internal/panel?sslmode=disable", "disable"),
        ("postgresql://u:p@db.internal/panel?sslmode=require", "require"),
    ],
)
def test_postgres_elsewhere_is_verified(monkeypatch: pytest.MonkeyPatch, url: str, mode: str | None) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    made = verified_postgres_url(url)
    assert ("sslmode=" in made) == (mode is not None)
    assert mode is None or f"sslmode={mode}" in made
    assert ("sslrootcert=" in made) == (mode == "verify-full")
    assert verified_postgres_url(made) == made


@pytest.mark.parametrize(("name", "value"), [("PGHOST", "db.internal"), ("PGHOSTADDR", "10.0.0.7"), ("PGSERVICE", "p")])
def test_libpqs_environment_names_hosts_too(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert "sslmode=verify-full" in verified_postgres_url("postgresql:///panel")


def test_an_authority_of_its_own_is_asked_wherever_the_server_is() -> None:
    url = verified_postgres_url("postgresql://u:p@127.0.0.1/panel?sslrootcert=/old", CA)
    assert url == f"postgresql://u:p@127.0.0.1/panel?sslmode=verify-full&sslrootcert={QUOTED}"


def test_redis_is_verified_unless_the_url_says_otherwise() -> None:
    assert verified_redis_url("redis://h/0") == "redis://h/0"
    url = verified_redis_url("rediss://:p@h/0", CA)
    assert url == f"rediss://:p@h/0?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs={QUOTED}"
    assert verified_redis_url(url) == url
    bare, tls = redis_tls(url)
    assert (bare, tls["ssl_cert_reqs"], tls["ssl_ca_certs"]) == ("rediss://:p@h/0", ssl.CERT_REQUIRED, str(CA))
    bare, tls = redis_tls("rediss://h/0?ssl_cert_reqs=CERT_NONE")
    assert (bare, tls["ssl_cert_reqs"], tls["ssl_check_hostname"]) == ("rediss://h/0", ssl.CERT_NONE, False)
    assert redis_tls("rediss://h/0")[1]["ssl_ca_certs"] == authorities()


def test_the_rest_of_a_url_keeps_its_spelling() -> None:
    """A password behind the question mark is struck out of logs as it is written."""
    made = verified_postgres_url("postgresql://h/d?password=first+word%21")
    assert made.startswith("postgresql://h/d?password=first+word%21&sslmode=")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"redis_url": "rediss://h/0?ssl_cert_reqs=maybe"}, "REDIS_URL has an ssl_cert_reqs that is none of"),
        ({"redis_url": "redis://h/0", "redis_ca_file": __file__}, "write rediss://"),
        ({"database_url": "postgresql://h/d?sslmode=require", "database_ca_file": __file__}, "sslmode=verify-full"),
        ({"redis_url": "rediss://h/0", "redis_ca_file": "/no/such.pem"}, "REDIS_CA_FILE /no/such.pem does not exist"),
    ],
)
def test_settings_that_would_check_nothing_are_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_settings(_env_file=None, **settings)
