"""Which settings contradict each other, and what they name that is not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from panel.server_urls import postgres_tls, verified_redis_url
from panel.setting_values import percent_encoded, readable

if TYPE_CHECKING:
    from panel.settings import Settings

PLACEHOLDER_SYNC_KEY = "your_secret_api_key_here_min_32_chars_change_this"
"""The key printed in the integration examples: known to the whole world, so refused outside the demo."""

MIN_PROOF_SECONDS = 360
"""Proxmox caches a guest's status for 5 minutes; a shorter proof of absence could be one stale cache."""

LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


def contradictions(settings: Settings) -> list[str]:
    """What is wrong with the settings together, in sentences that show no secret."""
    found = []
    placeholder = PLACEHOLDER_SYNC_KEY
    if settings.vps_sync_api_key.get_secret_value() == placeholder and not settings.demo:
        found.append("VPS_SYNC_API_KEY is the example key from the documentation; generate your own")
    unknown = set(settings.jwt_algorithms) - {"HS256", "RS256", "ES256", "EdDSA"}
    if unknown or not settings.jwt_algorithms:
        found.append("JWT_ALGORITHMS must be a comma-separated list out of HS256, RS256, ES256, EdDSA")
    secret = settings.jwt_secret.get_secret_value()
    if secret and len(secret.encode()) < 32:
        found.append("JWT_SECRET must be at least 32 bytes")
    keys = bool(settings.jwt_public_key or settings.jwt_jwks_url)
    if settings.jwt_public_key and settings.jwt_jwks_url:
        found.append("JWT_PUBLIC_KEY and JWT_JWKS_URL exclude each other; set one")
    if settings.jwt_jwks_url.startswith("http://") and urlsplit(settings.jwt_jwks_url).hostname not in LOOPBACK_NAMES:
        found.append("JWT_JWKS_URL must start with https://: who can change the answer can sign tokens")
    if secret and keys:
        found.append("JWT_SECRET and JWT_PUBLIC_KEY/JWT_JWKS_URL exclude each other; set one")
    if keys and "HS256" in settings.jwt_algorithms:
        found.append("JWT_ALGORITHMS must not list HS256 together with a public key (key confusion)")
    if settings.main_site_url and not settings.main_site_api_key.get_secret_value():
        found.append("MAIN_SITE_API_KEY is missing although MAIN_SITE_URL is set")
    if settings.main_site_url and not settings.user_id_space:
        found.append(
            "USER_ID_SPACE must be 'mapped' or 'shared' once MAIN_SITE_URL is set (docs/install.md says which)"
        )
    if settings.absence_proof_t_s < MIN_PROOF_SECONDS and not settings.demo:
        found.append(f"ABSENCE_PROOF_T_S must be at least {MIN_PROOF_SECONDS} (Proxmox caches for 300)")
    names = [c.name for c in settings.proxmox_clusters]
    if len(names) != len(set(names)):
        found.append("PROXMOX_CLUSTERS has two clusters of the same name")
    found.extend(_wrong_urls(settings))
    return found + _wrong_files(settings) + key_conflicts(settings)


def key_conflicts(settings: Settings) -> list[str]:
    """What makes it unclear whose key a key is, in sentences."""
    found = []
    if settings.ops_api_key_previous.get_secret_value() and not settings.ops_api_key.get_secret_value():
        found.append("OPS_API_KEY_PREVIOUS is set without OPS_API_KEY")
    site = {settings.vps_sync_api_key.get_secret_value(), settings.vps_sync_api_key_previous.get_secret_value()} - {""}
    if site & {settings.ops_api_key.get_secret_value(), settings.ops_api_key_previous.get_secret_value()}:
        found.append("OPS_API_KEY must differ from the keys of the main site")
    operators = settings.operators()
    names = [one.name for one in operators]
    if len(names) != len(set(names)):
        found.append("OPS_API_KEYS names an operator twice (OPS_API_KEY is the one named operator)")
    keys = [k for one in operators for k in (one.key.get_secret_value(), one.previous.get_secret_value()) if k]
    if len(keys) != len(set(keys)) or site.intersection(keys):
        found.append("OPS_API_KEYS: no key may stand twice, nor be one of the main site's")
    return found


def _wrong_files(settings: Settings) -> list[str]:
    found = []
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
            found.append(f"{name.upper()} {file} does not exist")
    # In the demo the simulators write theirs when they start.
    absent = [c for c in settings.proxmox_clusters if c.ca_file and not c.ca_file.is_file() and not settings.demo]
    return found + [f"PROXMOX_CLUSTERS: ca_file {c.ca_file} of cluster {c.name} does not exist" for c in absent]


def _wrong_urls(settings: Settings) -> list[str]:
    postgres, redis = ("postgresql://", "postgresql+psycopg://"), ("redis://", "rediss://")
    expected = {"database_url": postgres, "database_owner_url": postgres, "redis_url": redis}
    expected["database_session_url"] = postgres
    found = []
    for name, schemes in expected.items():
        url: str = getattr(settings, name)
        if not url:
            continue
        if not url.startswith(schemes):
            found.append(f"{name.upper()} must start with {schemes[0]}")
        elif not percent_encoded(url):
            found.append(f"{name.upper()} has a % that encodes nothing: in a password, write % as %25")
        elif not readable(url):
            found.append(f"{name.upper()} is not a URL of the form {schemes[0]}USER:PASSWORD@HOST:PORT/NAME")
        elif name == "redis_url":
            try:
                verified_redis_url(url)
            except ValueError as error:
                found.append(f"{name.upper()} {error}")
    if settings.redis_ca_file and settings.redis_url.startswith("redis://"):
        found.append("REDIS_CA_FILE is set, but REDIS_URL begins with redis://, which is without TLS: write rediss://")
    modes = [
        postgres_tls(url)
        for url in (settings.database_url, settings.database_owner_url, settings.database_session_url)
        if url
    ]
    if settings.database_ca_file and any(mode and not mode.startswith("verify-") for mode in modes):
        found.append(
            "DATABASE_CA_FILE is set, but an sslmode in DATABASE_URL checks nothing: write sslmode=verify-full"
        )
    if not re.fullmatch(r"(https://[^\s/?#@]+(/[^\s#]*)?)?", settings.finding_webhook_url.get_secret_value()):
        found.append("FINDING_WEBHOOK_URL must be an https URL without credentials and fragment")
    return found
