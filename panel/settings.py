"""Every setting, typed: its unit, and why its default is what it is. Secrets have no defaults.

Read from the environment and from ``.env`` in the working directory (the environment wins).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from panel.server_urls import postgres_tls, verified_postgres_url, verified_redis_url

PLACEHOLDER_SYNC_KEY = "your_secret_api_key_here_min_32_chars_change_this"
"""The key printed in the integration examples: known to the whole world, so refused outside the demo."""

MIN_PROOF_SECONDS = 360
"""Proxmox caches a guest's status for 5 minutes; a shorter proof of absence could be one stale cache."""


class SettingsError(ValueError):
    """A setting is wrong; the message is one sentence that names it and the remedy."""


def _printable_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and (len(text) < 32 or not re.fullmatch(r"[\x21-\x7e]+", text)):
        raise ValueError("must be at least 32 printable ASCII characters without spaces")
    return value


ApiKey = Annotated[SecretStr, AfterValidator(_printable_key)]


OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""A file, or nothing: an empty variable means the same as none."""


def _http_url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/?#@]+(:\d+)?(/[^\s?#]*)?", value):
        raise ValueError("must be an http(s) URL without credentials, query or fragment")
    return value.rstrip("/")


def _root_path(value: str) -> str:
    path = value.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError("must be empty or a path such as /panel")
    return path


RootPath = Annotated[str, AfterValidator(_root_path)]


def _proxy_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and not (re.fullmatch(r"http://([^\s/?#@:]+:[^\s/?#@:]*@)?[^\s/?#@]+:\d+/?", text) and _readable(text)):
        raise ValueError("must be http://host:port or http://user:password@host:port (percent-encode the password)")
    return value


ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy_url)]
"""The HTTP proxy through which one kind of server is asked, or empty. Secret: it may hold a password."""

HttpUrlText = Annotated[str, AfterValidator(_http_url)]


class ProxmoxCluster(BaseModel, extra="forbid"):
    """One cluster of ``PROXMOX_CLUSTERS``. TLS is always verified: against ``ca_file``, a pinned
    ``fingerprint`` (SHA-256 of the server's certificate) or the system's authorities."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
    urls: Annotated[list[HttpUrlText], Field(min_length=1)]
    token_id: Annotated[str, Field(pattern=r"^[^\s!@]+@[^\s!@]+![^\s!@]+$")]
    token_secret: SecretStr
    ca_file: Path | None = None
    fingerprint: Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$")] | None = None
    proxy: ProxyUrl = SecretStr("")
    pools: list[str] = []

    @model_validator(mode="after")
    def _one_trust(self) -> ProxmoxCluster:
        if self.ca_file and self.fingerprint:
            raise ValueError("give ca_file or fingerprint, not both")
        return self


LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


class OperatorKey(BaseModel, extra="forbid"):
    """One operator of ``OPS_API_KEYS``. ``read`` looks, ``operate`` decides too; the name is kept with what they
    decide. ``previous`` stays valid while the operator changes over to ``key``."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    role: Literal["read", "operate"]
    key: ApiKey
    previous: ApiKey = SecretStr("")

    @model_validator(mode="after")
    def _has_a_key(self) -> OperatorKey:
        if not self.key.get_secret_value():
            raise ValueError("an operator needs a key")
        return self


def _readable(url: str) -> bool:
    """Whether host and port can be told apart; never says what was wrong, since the URL holds a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    # An @ elsewhere is one of a password that was not percent-encoded: a part of the password would be taken for
    # the host or the path, and those are shown.
    encoded = parts.netloc.count("@") <= 1 and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
    return encoded and (port is not None or not parts.netloc.endswith(":"))


def _percent_encoded(url: str) -> bool:
    """Whether every % begins an encoded character of a UTF-8 text without NUL. Libraries take anything else each in
    its own way, some by quoting it, password and all."""
    try:
        text = unquote(url, errors="strict")
    except UnicodeDecodeError:
        return False
    return re.search("%(?![0-9A-Fa-f]{2})", url) is None and "\0" not in text


DriftClass = Literal[
    "missed-status",
    "plan",
    "ownership",
    "duplicate",
    "replaced-guest",
    "sold-on",
    "missed-create",
    "missed-delete",
    "orphan",
]


class Settings(BaseSettings):
    """See the README's table. Durations are seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    # --- who may call
    vps_sync_api_key: ApiKey = SecretStr("")
    vps_sync_api_key_previous: ApiKey = SecretStr("")  # stays valid while the main site changes over
    ops_api_key: ApiKey = SecretStr("")  # of the operator "operator", who may decide
    ops_api_key_previous: ApiKey = SecretStr("")
    ops_api_keys: tuple[OperatorKey, ...] = ()  # one for each person or program, so that the audit tells who
    jwt_secret: SecretStr = SecretStr("")
    jwt_public_key: str = ""  # PEM
    jwt_jwks_url: HttpUrlText = ""
    jwt_jwks_ca_file: OptionalPath = None  # where its certificate comes from an authority of its own
    jwt_jwks_proxy: ProxyUrl = SecretStr("")  # like the others below: HTTP_PROXY and its kin are never obeyed
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = ("HS256",)
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_leeway_s: Annotated[int, Field(ge=0, le=120)] = 10

    # --- where things are
    database_url: Annotated[str, Field(repr=False)] = ""  # these hold passwords
    database_owner_url: Annotated[str, Field(repr=False)] = (
        ""  # for migrations; empty: database_url's user owns the tables
    )
    # For what needs a session of its own, where database_url leads to a transaction pooler; empty: database_url does.
    database_session_url: Annotated[str, Field(repr=False)] = ""
    redis_url: Annotated[str, Field(repr=False)] = ""
    # Where a server's certificate comes from an authority of its own; by default this machine's authorities.
    database_ca_file: OptionalPath = None
    redis_ca_file: OptionalPath = None
    port: Annotated[int, Field(ge=0, le=65535)] = 5050
    host: Annotated[str, AfterValidator(lambda value: value.strip().removeprefix("[").removesuffix("]"))] = "127.0.0.1"
    root_path: RootPath = ""  # where a reverse proxy shows the panel: "/panel"; Location and operation.url begin so
    flower_port: Annotated[int, Field(ge=0, le=65535)] = 5555
    flower_user: str = "operator"
    flower_password: SecretStr = SecretStr("")
    log_format: Literal["json", "console"] = "json"

    # --- the main site
    main_site_url: HttpUrlText = ""
    main_site_api_key: SecretStr = SecretStr("")
    main_site_ca_file: OptionalPath = None  # where its certificate comes from an authority of its own
    main_site_proxy: ProxyUrl = SecretStr("")
    main_site_feed: Literal["orders", "panel-api"] = "orders"
    user_id_space: Literal["", "mapped", "shared"] = ""
    panel_api_cluster: str = ""

    # --- Proxmox
    proxmox_clusters: list[ProxmoxCluster] = []

    # --- cadence
    fast_interval_s: Annotated[float, Field(ge=1)] = 15  # three workers serve a Proxmox node: no faster
    full_interval_s: Annotated[float, Field(ge=1)] = 120  # at most; see full_jitter
    full_jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.5  # share of it by which a run may come earlier
    sweep_interval_s: Annotated[float, Field(ge=1)] = 3600  # full feed read; in between only what changed
    users_interval_s: Annotated[float, Field(ge=1)] = 600
    feed_age_max_s: Annotated[float, Field(ge=10)] = (
        300  # as_of behind by more is an alarm: caches and replicas lag less
    )

    # --- grace times: how long a difference may be mere lateness
    power_grace_s: float = 20
    link_grace_s: float = 120
    create_grace_s: float = 180
    stuck_creating_s: float = 7200
    paid_missing_grace_s: float = 1800
    orphan_grace_s: float = 86400
    ended_retention_s: float = 7 * 86400

    # --- retention
    journal_days: Annotated[int, Field(ge=90)] = 400  # last year's changes are there when the year is looked at

    # --- proof of absence
    absence_proof_n: Annotated[int, Field(ge=2)] = 3
    absence_proof_t_s: Annotated[float, Field(gt=0)] = 600
    demo: bool = False  # seconds instead of minutes for the proof; the example key is allowed

    # --- budgets (per run unless the name says otherwise)
    budget_deletes_run: Annotated[int, Field(ge=0)] = 20
    budget_deletes_hour: Annotated[int, Field(ge=0)] = 40
    budget_deletes_day: Annotated[int, Field(ge=0)] = 100
    budget_creates_min: Annotated[int, Field(ge=0)] = 25  # small fleets: a dozen lost calls are one bad evening
    budget_creates_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    budget_flips_min: Annotated[int, Field(ge=0)] = 5
    budget_flips_share: Annotated[float, Field(ge=0, le=1)] = 0.30
    budget_owners_run: Annotated[int, Field(ge=0)] = 3
    budget_owners_day: Annotated[int, Field(ge=0)] = 10
    budget_merges_run: Annotated[int, Field(ge=0)] = 10
    budget_merges_day: Annotated[int, Field(ge=0)] = 40
    budget_pushed_deletes_hour: Annotated[int, Field(ge=0)] = 20  # an alarm, no limit

    # --- what is done with a class of drift. "all": with every class that is not named, links too, which cannot be
    # named by themselves: everything else rests on them
    repair_policy: dict[DriftClass | Literal["all"], Literal["repair", "hold", "ignore"]] = {}

    # --- who is told
    finding_webhook_url: SecretStr = SecretStr("")  # secret: many receivers put their key into the path
    finding_webhook_ca_file: OptionalPath = None  # where its certificate comes from an authority of its own
    finding_webhook_proxy: ProxyUrl = SecretStr("")

    # --- limits
    body_limit_bytes: Annotated[int, Field(ge=1024)] = 65536
    answer_within_s: Annotated[float, Field(ge=1, le=120)] = 2  # then a call is told 503; callers must wait longer
    wait_cap_s: Annotated[float, Field(ge=0, le=60)] = 10
    worker_concurrency: Annotated[int, Field(ge=1)] = 2
    task_events: bool = True  # Flower needs them; they cost about a third of the peak task rate

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, data: dict[str, object]) -> dict[str, object]:
        algorithms = data.get("jwt_algorithms")
        if isinstance(algorithms, str):
            data["jwt_algorithms"] = tuple(a.strip() for a in algorithms.split(",") if a.strip())
        return data

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if problems := self._contradictions():
            raise ValueError("; ".join(problems))
        self._write_tls_out()
        return self

    def _write_tls_out(self) -> None:
        """From here on each URL says how its server is verified, to whichever client it is given."""
        redis = verified_redis_url(self.redis_url, self.redis_ca_file)
        object.__setattr__(self, "redis_url", redis)  # frozen for everybody else
        for name in ("database_url", "database_owner_url", "database_session_url"):
            url = verified_postgres_url(getattr(self, name), self.database_ca_file)
            object.__setattr__(self, name, url)

    def _contradictions(self) -> list[str]:
        found = []
        placeholder = PLACEHOLDER_SYNC_KEY
        if self.vps_sync_api_key.get_secret_value() == placeholder and not self.demo:
            found.append("VPS_SYNC_API_KEY is the example key from the documentation; generate your own")
        unknown = set(self.jwt_algorithms) - {"HS256", "RS256", "ES256", "EdDSA"}
        if unknown or not self.jwt_algorithms:
            found.append("JWT_ALGORITHMS must be a comma-separated list out of HS256, RS256, ES256, EdDSA")
        secret = self.jwt_secret.get_secret_value()
        if secret and len(secret.encode()) < 32:
            found.append("JWT_SECRET must be at least 32 bytes")
        keys = bool(self.jwt_public_key or self.jwt_jwks_url)
        if self.jwt_public_key and self.jwt_jwks_url:
            found.append("JWT_PUBLIC_KEY and JWT_JWKS_URL exclude each other; set one")
        if self.jwt_jwks_url.startswith("http://") and urlsplit(self.jwt_jwks_url).hostname not in LOOPBACK_NAMES:
            found.append("JWT_JWKS_URL must start with https://: who can change the answer can sign tokens")
        if secret and keys:
            found.append("JWT_SECRET and JWT_PUBLIC_KEY/JWT_JWKS_URL exclude each other; set one")
        if keys and "HS256" in self.jwt_algorithms:
            found.append("JWT_ALGORITHMS must not list HS256 together with a public key (key confusion)")
        if self.main_site_url and not self.main_site_api_key.get_secret_value():
            found.append("MAIN_SITE_API_KEY is missing although MAIN_SITE_URL is set")
        if self.main_site_url and not self.user_id_space:
            found.append("USER_ID_SPACE must be 'mapped' or 'shared' once MAIN_SITE_URL is set (see README)")
        if self.absence_proof_t_s < MIN_PROOF_SECONDS and not self.demo:
            found.append(f"ABSENCE_PROOF_T_S must be at least {MIN_PROOF_SECONDS} (Proxmox caches for 300)")
        names = self.cluster_names
        if len(names) != len(set(names)):
            found.append("PROXMOX_CLUSTERS has two clusters of the same name")
        found.extend(self._wrong_urls())
        return found + self._wrong_files() + self.key_conflicts()

    @property
    def session_url(self) -> str:
        """Where a connection is a session of PostgreSQL's, with its locks, its LISTEN and its temporary tables."""
        return self.database_session_url or self.database_url

    @property
    def cluster_names(self) -> list[str]:
        """The names of the configured clusters, in their order."""
        return [cluster.name for cluster in self.proxmox_clusters]

    @property
    def pooled(self) -> bool:
        """Whether ``database_url`` leads to a pooler that gives each transaction a session of its choice."""
        return bool(self.database_session_url)

    def operators(self) -> list[OperatorKey]:
        """All operators that have a key."""
        if not self.ops_api_key.get_secret_value():
            return list(self.ops_api_keys)
        key, previous = self.ops_api_key, self.ops_api_key_previous
        return [OperatorKey(name="operator", role="operate", key=key, previous=previous), *self.ops_api_keys]

    def key_conflicts(self) -> list[str]:
        """What makes it unclear whose key a key is, in sentences."""
        found = []
        if self.ops_api_key_previous.get_secret_value() and not self.ops_api_key.get_secret_value():
            found.append("OPS_API_KEY_PREVIOUS is set without OPS_API_KEY")
        site = {self.vps_sync_api_key.get_secret_value(), self.vps_sync_api_key_previous.get_secret_value()} - {""}
        if site & {self.ops_api_key.get_secret_value(), self.ops_api_key_previous.get_secret_value()}:
            found.append("OPS_API_KEY must differ from the keys of the main site")
        operators = self.operators()
        names = [one.name for one in operators]
        if len(names) != len(set(names)):
            found.append("OPS_API_KEYS names an operator twice (OPS_API_KEY is the one named operator)")
        keys = [k for one in operators for k in (one.key.get_secret_value(), one.previous.get_secret_value()) if k]
        if len(keys) != len(set(keys)) or site.intersection(keys):
            found.append("OPS_API_KEYS: no key may stand twice, nor be one of the main site's")
        return found

    def _wrong_files(self) -> list[str]:
        found = []
        names = (
            "main_site_ca_file",
            "finding_webhook_ca_file",
            "jwt_jwks_ca_file",
            "database_ca_file",
            "redis_ca_file",
        )
        for name in names:
            file: Path | None = getattr(self, name)
            if file and not file.is_file():
                found.append(f"{name.upper()} {file} does not exist")
        # In the demo the simulators write theirs when they start.
        absent = [c for c in self.proxmox_clusters if c.ca_file and not c.ca_file.is_file() and not self.demo]
        return found + [f"PROXMOX_CLUSTERS: ca_file {c.ca_file} of cluster {c.name} does not exist" for c in absent]

    def _wrong_urls(self) -> list[str]:
        postgres, redis = ("postgresql://", "postgresql+psycopg://"), ("redis://", "rediss://")
        expected = {"database_url": postgres, "database_owner_url": postgres, "redis_url": redis}
        expected["database_session_url"] = postgres
        found = []
        for name, schemes in expected.items():
            url: str = getattr(self, name)
            if not url:
                continue
            if not url.startswith(schemes):
                found.append(f"{name.upper()} must start with {schemes[0]}")
            elif not _percent_encoded(url):
                found.append(f"{name.upper()} has a % that encodes nothing: in a password, write % as %25")
            elif not _readable(url):
                found.append(f"{name.upper()} is not a URL of the form {schemes[0]}USER:PASSWORD@HOST:PORT/NAME")
            elif name == "redis_url":
                try:
                    verified_redis_url(url)
                except ValueError as error:
                    found.append(f"{name.upper()} {error}")
        if self.redis_ca_file and self.redis_url.startswith("redis://"):
            found.append(
                "REDIS_CA_FILE is set, but REDIS_URL begins with redis://, which is without TLS: write rediss://"
            )
        modes = [
            postgres_tls(url) for url in (self.database_url, self.database_owner_url, self.database_session_url) if url
        ]
        if self.database_ca_file and any(mode and not mode.startswith("verify-") for mode in modes):
            found.append(
                "DATABASE_CA_FILE is set, but an sslmode in DATABASE_URL checks nothing: write sslmode=verify-full"
            )
        if not re.fullmatch(r"(https://[^\s/?#@]+(/[^\s#]*)?)?", self.finding_webhook_url.get_secret_value()):
            found.append("FINDING_WEBHOOK_URL must be an https URL without credentials and fragment")
        return found

    def require(self, *names: str) -> None:
        """Raise SettingsError naming the first of ``names`` that is empty."""
        for name in names:
            value = getattr(self, name)
            if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
                raise SettingsError(f"{name.upper()} is not set; set it in the environment or in .env")

    def require_jwt(self) -> None:
        """Raise SettingsError unless some way to verify client tokens is configured."""
        if not (self.jwt_secret.get_secret_value() or self.jwt_public_key or self.jwt_jwks_url):
            raise SettingsError("JWT_SECRET is not set (nor JWT_PUBLIC_KEY or JWT_JWKS_URL); clients need one")


def load_settings(**overrides: object) -> Settings:
    """Read the settings; raise SettingsError with a sentence for each that is wrong.

    No sentence contains the value: it may be a secret.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic validates them
    except ValidationError as error:
        raise SettingsError("; ".join(_sentences(error))) from None
    except Exception as error:  # pydantic-settings wraps malformed JSON in its own error
        cause = type(error).__name__
        if cause != "SettingsError":
            raise
        field = re.search(r'field "(\w+)"', str(error))
        raise SettingsError(f"{field[1].upper() if field else 'A setting'} is not valid JSON") from None


def _sentences(error: ValidationError) -> Iterator[str]:
    for one in error.errors(include_input=False, include_url=False):
        # The setting as it is spelt in the environment, then the keys inside its JSON as they are.
        name = ".".join(str(part) if index else str(part).upper() for index, part in enumerate(one["loc"]))
        text = one["msg"].removeprefix("Value error, ")
        yield f"{name}: {text}" if name else text


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once."""
    return load_settings()


def sqlalchemy_url(url: str) -> str:
    """The same URL with the psycopg 3 driver named, as SQLAlchemy wants it."""
    return re.sub(r"^postgresql(\+psycopg)?://", "postgresql+psycopg://", url)
