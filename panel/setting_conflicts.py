"""Checks of the settings together: which contradict each other, and which name a file that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from panel.server_urls import postgres_tls, verified_redis_url
from panel.setting_values import percent_encoded, readable

if TYPE_CHECKING:
    from panel.settings import Settings

PLACEHOLDER_SYNC_KEY = "your_secret_api_key_here_min_32_chars_change_this"
"""The key printed in the integration examples. It is public, so outside the demo no setting may be it."""

MAX_FULL_INTERVAL_FOR_POWER_S = 540
"""Nobody is switched by an order that was read more than 10 minutes ago, so a full run must begin and end before."""

MIN_PROOF_SECONDS = 360
"""Proxmox caches a guest's status for 5 minutes, so all reads of a shorter proof could come from one stale cache."""

LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


def contradictions(settings: Settings) -> list[str]:
    """A sentence for each problem of the settings together. No sentence shows a secret."""
    problems = [] if settings.demo else _public_keys(settings)
    unknown = set(settings.jwt_algorithms) - {"HS256", "RS256", "ES256", "EdDSA"}
    if unknown or not settings.jwt_algorithms:
        problems.append("JWT_ALGORITHMS must be a comma-separated list of HS256, RS256, ES256 or EdDSA")
    secret = settings.jwt_secret.get_secret_value()
    if secret and len(secret.encode()) < 32:
        problems.append("JWT_SECRET must be at least 32 bytes")
    keys = bool(settings.jwt_public_key or settings.jwt_jwks_url)
    if settings.jwt_public_key and settings.jwt_jwks_url:
        problems.append("JWT_PUBLIC_KEY and JWT_JWKS_URL exclude each other; set one")
    if _in_clear(settings.jwt_jwks_url):
        problems.append("JWT_JWKS_URL must start with https://: anyone who can change the answer can sign tokens")
    if secret and keys:
        problems.append("JWT_SECRET and JWT_PUBLIC_KEY/JWT_JWKS_URL exclude each other; set one")
    if keys and "HS256" in settings.jwt_algorithms:
        problems.append("JWT_ALGORITHMS must not list HS256 together with a public key (key confusion)")
    problems.extend(_main_site_problems(settings))
    if settings.absence_proof_t_s < MIN_PROOF_SECONDS and not settings.demo:
        problems.append(
            f"ABSENCE_PROOF_T_S must be at least {MIN_PROOF_SECONDS} (Proxmox caches a guest's status for 300 s)"
        )
    if settings.power_actions and settings.main_site_url and settings.full_interval_s > MAX_FULL_INTERVAL_FOR_POWER_S:
        problems.append(
            f"FULL_INTERVAL_S must be at most {MAX_FULL_INTERVAL_FOR_POWER_S} while POWER_ACTIONS is true: "
            "an action is refused once the order was read more than 10 minutes ago"
        )
    names = [cluster.name for cluster in settings.proxmox_clusters]
    if len(names) != len(set(names)):
        problems.append("PROXMOX_CLUSTERS has two clusters of the same name")
    problems.extend(_wrong_urls(settings))
    return problems + _missing_files(settings) + key_conflicts(settings)


def _public_keys(settings: Settings) -> list[str]:
    """A sentence for each setting that is the example key, whichever door it opens: also an old key that still counts,
    an operator's, and the secret of clients' tokens."""
    given = {name.upper(): getattr(settings, name) for name in type(settings).model_fields}
    for operator in settings.ops_api_keys:
        given[f"OPS_API_KEYS: key of {operator.name}"] = operator.key
        given[f"OPS_API_KEYS: previous of {operator.name}"] = operator.previous
    return [
        f"{name} is the example key from the documentation, which is public; generate your own, or unset an old one"
        for name, value in given.items()
        if isinstance(value, SecretStr) and value.get_secret_value() == PLACEHOLDER_SYNC_KEY
    ]


def _main_site_problems(settings: Settings) -> list[str]:
    problems = []
    if _in_clear(settings.main_site_url) and not settings.demo:
        problems.append(
            "MAIN_SITE_URL must start with https:// unless it is on this host: the panel's key goes there in clear"
        )
    if _in_clear(settings.main_site_webhook_url) and not settings.demo:
        problems.append(
            "MAIN_SITE_WEBHOOK_URL must start with https:// unless it is on this host: it is told of customers"
        )
    if settings.main_site_url and not settings.main_site_api_key.get_secret_value():
        problems.append("MAIN_SITE_API_KEY is missing although MAIN_SITE_URL is set")
    if settings.main_site_url and not settings.user_id_space:
        problems.append(
            "USER_ID_SPACE must be 'mapped' or 'shared' once MAIN_SITE_URL is set (docs/install.md says which)"
        )
    return problems


def _in_clear(url: str) -> bool:
    """Whether what goes to this address can be read and changed on its way."""
    return url.startswith("http://") and urlsplit(url).hostname not in LOOPBACK_NAMES


def key_conflicts(settings: Settings) -> list[str]:
    """A sentence for each problem of the keys: each key must belong to exactly one caller."""
    problems = []
    if settings.ops_api_key_previous.get_secret_value() and not settings.ops_api_key.get_secret_value():
        problems.append("OPS_API_KEY_PREVIOUS is set without OPS_API_KEY")
    site = {settings.vps_sync_api_key.get_secret_value(), settings.vps_sync_api_key_previous.get_secret_value()} - {""}
    if site & {settings.ops_api_key.get_secret_value(), settings.ops_api_key_previous.get_secret_value()}:
        problems.append("OPS_API_KEY must differ from the keys of the main site")
    operators = settings.operators()
    names = [operator.name for operator in operators]
    if len(names) != len(set(names)):
        problems.append("OPS_API_KEYS names an operator twice (OPS_API_KEY belongs to the operator named operator)")
    secrets = [secret for operator in operators for secret in (operator.key, operator.previous)]
    keys = [key for secret in secrets if (key := secret.get_secret_value())]
    if len(keys) != len(set(keys)) or site.intersection(keys):
        problems.append("OPS_API_KEYS: no key may appear twice, nor be a key of the main site")
    if settings.sign_in_secret.get_secret_value() in {*site, *keys, settings.jwt_secret.get_secret_value()} - {""}:
        problems.append("SIGN_IN_SECRET must be no other key: not the main site's, not an operator's, not JWT_SECRET")
    return problems


def _missing_files(settings: Settings) -> list[str]:
    problems = []
    names = (
        "main_site_ca_file",
        "finding_webhook_ca_file",
        "jwt_jwks_ca_file",
        "database_ca_file",
        "redis_ca_file",
    )
    for name in names:
        file: Path | None = getattr(settings, name)
        if file and not file.is_file():
            problems.append(f"{name.upper()} {file} does not exist")
    # Not in the demo: its simulators write their files only when they start.
    absent = [c for c in settings.proxmox_clusters if c.ca_file and not c.ca_file.is_file() and not settings.demo]
    return problems + [f"PROXMOX_CLUSTERS: ca_file {c.ca_file} of cluster {c.name} does not exist" for c in absent]


def _wrong_urls(settings: Settings) -> list[str]:
    postgres, redis = ("postgresql://", "postgresql+psycopg://"), ("redis://", "rediss://")
    expected = {"database_url": postgres, "database_owner_url": postgres, "redis_url": redis}
    expected["database_session_url"] = postgres
    problems = []
    for name, schemes in expected.items():
        url: str = getattr(settings, name)
        if not url:
            continue
        if not url.startswith(schemes):
            problems.append(f"{name.upper()} must start with {schemes[0]}")
        elif not percent_encoded(url):
            problems.append(f"{name.upper()} has a % that encodes nothing: in a password, write % as %25")
        elif not readable(url):
            problems.append(f"{name.upper()} is not a URL of the form {schemes[0]}USER:PASSWORD@HOST:PORT/NAME")
        elif name == "redis_url":
            try:
                verified_redis_url(url)
            except ValueError as error:
                problems.append(f"{name.upper()} {error}")
    if settings.redis_ca_file and settings.redis_url.startswith("redis://"):
        problems.append("REDIS_CA_FILE is set, but REDIS_URL begins with redis://, which has no TLS: write rediss://")
    modes = [
        postgres_tls(url)
        for url in (settings.database_url, settings.database_owner_url, settings.database_session_url)
        if url
    ]
    if settings.database_ca_file and any(mode and not mode.startswith("verify-") for mode in modes):
        problems.append(
            "DATABASE_CA_FILE is set, but the sslmode in a URL of PostgreSQL checks no certificate: "
            "write sslmode=verify-full"
        )
    if not re.fullmatch(r"(https://[^\s/?#@]+(/[^\s#]*)?)?", settings.finding_webhook_url.get_secret_value()):
        problems.append("FINDING_WEBHOOK_URL must be an https URL without credentials and fragment")
    return problems
