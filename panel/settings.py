"""Every setting, typed, with its unit and the reason for its default. Secrets have no defaults.

Read from the environment and from ``.env`` in the working directory (the environment wins). The kinds of values are in
:mod:`panel.setting_values`, the checks of several settings together in :mod:`panel.setting_conflicts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from panel.server_urls import verified_postgres_url, verified_redis_url
from panel.setting_conflicts import PLACEHOLDER_SYNC_KEY, contradictions
from panel.setting_values import (
    ApiKey,
    DriftClass,
    HttpUrlText,
    OperatorKey,
    OptionalCount,
    OptionalPath,
    ProxmoxCluster,
    ProxyUrl,
    RootPath,
    WebhookSecret,
)

__all__ = [
    "PLACEHOLDER_SYNC_KEY",
    "DriftClass",
    "OperatorKey",
    "ProxmoxCluster",
    "Settings",
    "SettingsError",
    "get_settings",
    "load_settings",
]


class SettingsError(ValueError):
    """A setting is wrong; the message is one sentence that names it and the remedy."""


class Settings(BaseSettings):
    """One field for each setting. The text under a field is its line in ``docs/settings.md``, which
    ``tools/settings_page.py`` writes. Names that end in ``_s`` are seconds."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        hide_input_in_errors=True,
        frozen=True,
        use_attribute_docstrings=True,
    )

    # --- Who may call
    vps_sync_api_key: ApiKey = SecretStr("")
    """Required. The main site's key: at least 32 printable ASCII characters. The integration guide's example key is
    refused, because it is public."""
    vps_sync_api_key_previous: ApiKey = SecretStr("")
    """The main site's old key. It stays valid while the main site changes over to the new one."""
    ops_api_key: ApiKey = SecretStr("")
    """The key to `/api/ops` of the operator named `operator`, who has the role `operate`. It must differ from the main
    site's keys."""
    ops_api_key_previous: ApiKey = SecretStr("")
    """The old key of the operator `operator`. It stays valid during the change."""
    ops_api_keys: tuple[OperatorKey, ...] = ()
    """More operators, one for each person or program, so that the audit tells who decided: `name`, `role` (`read` or
    `operate`), `key`, `previous`. Without any operator key `/api/ops` refuses every request."""
    jwt_secret: SecretStr = SecretStr("")
    """One way to verify clients' tokens: an HS256 secret of at least 32 bytes. One of `JWT_SECRET`, `JWT_PUBLIC_KEY`
    and `JWT_JWKS_URL` is required."""
    jwt_public_key: str = ""
    """Another way: a public key in PEM. RSA of 2048 bits or more, EC P-256, or Ed25519."""
    jwt_jwks_url: HttpUrlText = ""
    """A third way: the address where the issuer publishes its keys. It must be `https://`, except on loopback: anyone
    who can change the answer can sign tokens."""
    jwt_jwks_ca_file: OptionalPath = None
    """A PEM file of the authority behind the certificate of `JWT_JWKS_URL`. Empty: the system's authorities."""
    jwt_jwks_proxy: ProxyUrl = SecretStr("")
    """The HTTP proxy to `JWT_JWKS_URL`: `http://[user:password@]host:port`. The panel never obeys `HTTP_PROXY` and
    similar variables."""
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = ("HS256",)
    """Some of `HS256 RS256 ES256 EdDSA`, separated by commas. `HS256` is refused together with a public key: an
    attacker could use the public key as the secret."""
    jwt_issuer: str = ""
    """If set, a token's `iss` must equal it."""
    jwt_audience: str = ""
    """If set, a token's `aud` must name it."""
    jwt_leeway_s: Annotated[int, Field(ge=0, le=120)] = 10
    """How far the issuer's clock may differ from the panel's."""
    sign_in_secret: ApiKey = SecretStr("")
    """The secret with which the main site signs the links that sign its customers in to [the pages](pages.md): at least
    32 printable ASCII characters, and no other key. Empty: there are no such links, and customers sign in with a
    token."""
    sign_in_url: HttpUrlText = ""
    """The main site's page from which customers come to the panel. Pages lead back to it. Empty: `MAIN_SITE_URL`."""

    # --- Where things are
    database_url: Annotated[str, Field(repr=False)] = ""
    """Required by `up`. The application's login, which may read and write rows, but not change tables."""
    database_owner_url: Annotated[str, Field(repr=False)] = ""
    """For `migrate` only: the login that owns the tables and makes roles. Empty: `DATABASE_URL` does both, and `doctor`
    warns."""
    database_session_url: Annotated[str, Field(repr=False)] = ""
    """Set it where `DATABASE_URL` leads to a transaction pooler. It names the server itself, for runs, `LISTEN` and
    locks ([poolers](runtime.md#behind-a-pooler))."""
    redis_url: Annotated[str, Field(repr=False)] = ""
    """Required by `up`. The broker."""
    database_ca_file: OptionalPath = None
    """A PEM file of the authority behind PostgreSQL's certificate. With it the server is verified wherever it is
    ([TLS](runtime.md#tls)). Empty: this machine's authorities."""
    redis_ca_file: OptionalPath = None
    """A PEM file of the authority behind a `rediss://` server's certificate. Empty: this machine's authorities."""
    port: Annotated[int, Field(ge=0, le=65535)] = 5050
    """The port on which the API listens."""
    host: Annotated[str, AfterValidator(lambda value: value.strip().removeprefix("[").removesuffix("]"))] = "127.0.0.1"
    """The address on which the API listens. `::` and `::1` for IPv6."""
    forwarded_allow_ips: str = ""
    """Proxies whose `X-Forwarded-*` count, separated by commas. Empty: `127.0.0.1` and `::1`. Never `*`."""
    root_path: RootPath = ""
    """The path at which a reverse proxy serves the panel, such as `/panel`. The proxy removes it from each request.
    `Location` and `operation.url` begin with it."""
    flower_port: Annotated[int, Field(ge=0, le=65535)] = 5555
    """Flower's port. It listens on loopback. `panel-sync flower --address`, or `FLOWER_ADDRESS` in its environment (not
    in `.env`), sets another address."""
    flower_user: str = "operator"
    """The user that Flower asks for."""
    flower_password: SecretStr = SecretStr("")
    """Required by Flower, which does not start without it. ASCII without commas."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The port on which a worker or beat of its own container shows its metrics
    ([how](monitoring.md#how-to-scrape)). 0: it does not listen. `panel-sync up` and `run` do not need it: there the
    API shows the metrics of all."""
    metrics_host: Annotated[str, AfterValidator(lambda value: value.strip().removeprefix("[").removesuffix("]"))] = (
        "127.0.0.1"
    )
    """The address of that port. Whoever reaches it reads the metrics without a key."""
    flower_url: HttpUrlText = ""
    """Where operators' browsers reach Flower. The operators' pages link to it. Empty: they do not."""
    traces_url: HttpUrlText = ""
    """Where traces are sent: an OTLP/HTTP collector, such as `http://collector:4318/v1/traces`. Empty: nothing is noted
    or sent ([what they say, and what never](monitoring.md#traces))."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""

    # --- The main site
    main_site_url: HttpUrlText = ""
    """Where the order feed is: `https://`, or `http://` on this host and with `DEMO`. Empty: there are no orders to
    compare with, so no run ever deletes."""
    main_site_api_key: SecretStr = SecretStr("")
    """The panel's key to the feed. Required with `MAIN_SITE_URL`."""
    main_site_ca_file: OptionalPath = None
    """A PEM file of the private authority behind the main site's certificate. Empty: the system's authorities."""
    main_site_proxy: ProxyUrl = SecretStr("")
    """The HTTP proxy to the main site. A Proxmox cluster has its own in `PROXMOX_CLUSTERS`."""
    main_site_feed: Literal["orders", "panel-api"] = "orders"
    """Which interface of the main site is read ([which one to choose](install.md#point-it-at-the-main-site))."""
    user_id_space: Literal["", "mapped", "shared"] = ""
    """Required with `MAIN_SITE_URL`: `mapped` if the main site has user ids of its own, `shared` if they are the
    panel's. A wrong value gives customers' machines to strangers: [read this first](install.md#who-owns-what). There
    is no default, so that no panel runs with the wrong value by accident."""
    panel_api_cluster: str = ""
    """The name of the cluster that every `proxmoxId` of the feed `panel-api` belongs to."""

    # --- What the main site is told
    main_site_webhook_url: HttpUrlText = ""
    """Where the main site takes [events](contract.md#events-for-the-main-site): `https://`, or `http://` on this host
    and with `DEMO`. It is no secret: put no key into it. Requests go by `MAIN_SITE_CA_FILE` and `MAIN_SITE_PROXY`.
    Empty: it is told nothing."""
    main_site_webhook_secret: WebhookSecret = SecretStr("")
    """Required with `MAIN_SITE_WEBHOOK_URL`. It signs the events: `whsec_` and 24 to 64 random bytes in base64."""
    main_site_webhook_secret_previous: WebhookSecret = SecretStr("")
    """The old secret. Events are signed with both until the main site has changed over to the new one."""
    main_site_webhook_private: bool = False
    """Whether the address may lead into a private network. While it is off, nothing is sent to such an address,
    whatever the name leads to."""

    # --- Proxmox VE
    proxmox_clusters: list[ProxmoxCluster] = []
    """One entry a cluster: `name`, `urls`, `token_id`, `token_secret`, `ca_file` or `fingerprint`, `pools`, `proxy`
    ([how](install.md#point-it-at-proxmox-ve))."""

    # --- Power actions of customers
    power_actions: bool = False
    """Whether customers may start, stop and restart their own VPS ([rights and limits](proxmox.md#power-actions)).
    While it is off, the panel only reads Proxmox."""
    power_actions_hour: Annotated[int, Field(ge=1, le=1000)] = 30
    """How many power actions one customer may ask for in one hour. Enough for a day of repairs by hand, and too few for
    a script that goes round in circles."""

    # --- How often
    fast_interval_s: Annotated[float, Field(ge=1)] = 15
    """How often the fast lane reads each cluster's list. Not faster: a Proxmox node has only three API workers."""
    full_interval_s: Annotated[float, Field(ge=1)] = 120
    """A full run, which compares all orders, guests and records, begins at the latest after this time."""
    full_jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    """The share of `FULL_INTERVAL_S` by which a full run may come earlier, at random: by default every 60 to 120 s.
    This keeps several panels from reading one Proxmox at the same moment."""
    sweep_interval_s: Annotated[float, Field(ge=1)] = 3600
    """How often the whole order feed is read. In between, runs read only what changed."""
    users_interval_s: Annotated[float, Field(ge=1)] = 600
    """How often users are imported. They are also imported when beat starts and before the first run."""
    feed_age_max_s: Annotated[float, Field(ge=10)] = 300
    """How far the feed's `as_of` may be behind before that is a problem and an alarm. Caches and replicas lag less."""

    mend_within_s: Annotated[float, Field(gt=0)] = 900
    """The service level: the overview and `panel-sync service-levels` count the differences that were mended within
    this time. No run waits for it. 15 minutes, because a missed delete takes about 12: an absence must be proven."""

    # --- Grace times: how long a difference may be mere lateness
    power_grace_s: float = 20
    """For at least this long a power state that the main site pushed counts, even if Proxmox shows another."""
    link_grace_s: float = 120
    """A record younger than this is not paired by its name: the call with its keys may still be on its way. Orders that
    are read so long after a machine was first seen must have the one that it was sold for."""
    create_grace_s: float = 180
    """An order that has had no record for this long is a missed create."""
    stuck_creating_s: float = 7200
    """An order that has been pending for this long is reported."""
    paid_missing_grace_s: float = 1800
    """A record shows `error` once its order has been paid for, without a guest, for this long."""
    orphan_grace_s: float = 86400
    """A record whose order and guest have both been gone for this long is an orphan."""
    ended_retention_s: float = 7 * 86400
    """For this long the guest of an ended order is a quiet finding, because hosters keep it for a while. After that it
    is an alarm. Default: 7 days."""

    # --- How long things are kept
    journal_days: Annotated[int, Field(ge=90)] = 400
    """How long every change and every deleted record is kept. The default is longer than a year, so that last year's
    changes can still be looked up ([what else is kept](reliability.md#retention))."""

    # --- Proof of absence
    absence_proof_n: Annotated[int, Field(ge=2)] = 3
    """How many consecutive complete reads must miss an object before its absence is proven."""
    absence_proof_t_s: Annotated[float, Field(gt=0)] = 600
    """The first and the last of those reads must be at least this far apart. Less than 360 is refused: Proxmox caches a
    guest's status for 300 s."""
    demo: bool = False
    """Allows a shorter proof and the example key, and skips the first-run question. Never in production."""

    # --- Limits of a run
    budget_deletes_run: Annotated[int, Field(ge=0)] = 20
    """Deletes in one run. There are two more limits: at most 3 or 20 % of the records of one node, and at most 1 or
    20 % of those of one customer. The larger number counts."""
    budget_deletes_hour: Annotated[int, Field(ge=0)] = 40
    """Deletes in one hour."""
    budget_deletes_day: Annotated[int, Field(ge=0)] = 100
    """Deletes in one day."""
    budget_creates_min: Annotated[int, Field(ge=0)] = 25
    """Creates in one run: the larger of this number and of `BUDGET_CREATES_SHARE`. 25, because a small fleet may lose a
    dozen calls in one bad evening. The first filling of a panel has no limit: it needs an operator's word instead."""
    budget_creates_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The same as a share of all records."""
    budget_flips_min: Annotated[int, Field(ge=0)] = 5
    """How many power states of one cluster, or states that the feed gives, may turn the same way in one run. If there
    are more, they wait for one more run. The larger of this number and of `BUDGET_FLIPS_SHARE`."""
    budget_flips_share: Annotated[float, Field(ge=0, le=1)] = 0.30
    """The same as a share."""
    budget_owners_run: Annotated[int, Field(ge=0)] = 3
    """Changes of owner in one run."""
    budget_owners_day: Annotated[int, Field(ge=0)] = 10
    """Changes of owner in one day."""
    budget_merges_run: Annotated[int, Field(ge=0)] = 10
    """Merges of two records of one machine, in one run."""
    budget_merges_day: Annotated[int, Field(ge=0)] = 40
    """Merges in one day."""
    budget_pushed_deletes_hour: Annotated[int, Field(ge=0)] = 20
    """If the main site's own calls delete more than this in one hour, the panel raises the alarm `delete-storm`. The
    calls are applied all the same."""

    second_approval_above: OptionalCount = None
    """A held set that takes a VPS from somebody more often than this (deletes, merges, changes of owner, guests that a
    record gives up) needs the approval of two operators, each with a key of their own. Creates and facts do not count.
    Empty: one operator is enough, because a hoster with only one could never approve a larger set."""

    # --- How each class of drift is handled
    repair_policy: dict[DriftClass | Literal["all"], Literal["repair", "hold", "ignore"]] = {}
    """By class of drift: `repair` (the default), `hold` (each change waits for an approval) or `ignore`. Classes:
    `missed-status plan ownership duplicate replaced-guest sold-on missed-create missed-delete orphan`. `all` stands
    for every class that is not named, and for links: with `{"all": "hold"}` runs change nothing without an
    approval. `sold-on` (a machine goes to another customer) is held unless it is named itself."""

    # --- Where alarms are sent
    finding_webhook_url: SecretStr = SecretStr("")
    """An HTTPS address to which the panel sends each new alarm, as JSON with a `text`. It is secret, because many
    receivers put their key into the path."""
    finding_webhook_ca_file: OptionalPath = None
    """A PEM file of the authority behind the receiver's certificate. Empty: the system's authorities."""
    finding_webhook_proxy: ProxyUrl = SecretStr("")
    """The HTTP proxy to the receiver."""

    # --- Limits of the panel
    body_limit_bytes: Annotated[int, Field(ge=1024)] = 65536
    """The largest body of a sync call."""
    answer_within_s: Annotated[float, Field(ge=1, le=120)] = 2
    """Every answer comes within this time. If the database is away or slower, the call is answered 503. Callers and
    proxies must wait longer than this."""
    wait_cap_s: Annotated[float, Field(ge=0, le=60)] = 10
    """The longest `Prefer: wait`."""
    worker_concurrency: Annotated[int, Field(ge=1)] = 2
    """Processes of the worker for sync calls."""
    task_events: bool = True
    """Whether workers send events to Flower. They cost a third of the peak rate of tasks, each of up to 200 calls."""

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, data: dict[str, object]) -> dict[str, object]:
        algorithms = data.get("jwt_algorithms")
        if isinstance(algorithms, str):
            data["jwt_algorithms"] = tuple(a.strip() for a in algorithms.split(",") if a.strip())
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if problems := contradictions(self):
            raise ValueError("; ".join(problems))
        self._write_tls_out()
        return self

    def _write_tls_out(self) -> None:
        """Write into each URL how its server is verified, so that every client that gets the URL does the same."""
        redis = verified_redis_url(self.redis_url, self.redis_ca_file)
        object.__setattr__(self, "redis_url", redis)  # the settings are frozen
        for name in ("database_url", "database_owner_url", "database_session_url"):
            url = verified_postgres_url(getattr(self, name), self.database_ca_file)
            object.__setattr__(self, name, url)

    @property
    def session_url(self) -> str:
        """The URL whose connections each have a session of their own: locks, ``LISTEN`` and temporary tables work."""
        return self.database_session_url or self.database_url

    @property
    def cluster_names(self) -> list[str]:
        """The names of the configured clusters, in their order."""
        return [cluster.name for cluster in self.proxmox_clusters]

    @property
    def pooled(self) -> bool:
        """Whether ``database_url`` leads to a pooler that may give each transaction another session."""
        return bool(self.database_session_url)

    def operators(self) -> list[OperatorKey]:
        """All operators that have a key."""
        if not self.ops_api_key.get_secret_value():
            return list(self.ops_api_keys)
        key, previous = self.ops_api_key, self.ops_api_key_previous
        return [OperatorKey(name="operator", role="operate", key=key, previous=previous), *self.ops_api_keys]

    def require(self, *names: str) -> None:
        """Raise SettingsError naming the first of ``names`` that is empty."""
        for name in names:
            value = getattr(self, name)
            if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
                raise SettingsError(f"{name.upper()} is not set; set it in the environment or in .env")

    def require_jwt(self) -> None:
        """Raise SettingsError unless some way to verify client tokens is configured."""
        if not (self.jwt_secret.get_secret_value() or self.jwt_public_key or self.jwt_jwks_url):
            raise SettingsError(
                "JWT_SECRET is not set, nor JWT_PUBLIC_KEY or JWT_JWKS_URL; set one, to verify clients' tokens"
            )


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
    for detail in error.errors(include_input=False, include_url=False):
        # The setting's name as in the environment, then the keys inside its JSON as they are.
        name = ".".join(str(part) if index else str(part).upper() for index, part in enumerate(detail["loc"]))
        text = detail["msg"].removeprefix("Value error, ")
        yield f"{name}: {text}" if name else text


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once."""
    return load_settings()
