"""Makes the sources and the reconciler from the settings. Only this module knows both sides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from pydantic import SecretStr
from sqlalchemy import Engine

from domain.guests import GuestType
from domain.identity_doubts import GAP
from domain.orders import Order
from domain.power.port import PowerSource
from domain.source_protocols import (
    ClusterReading,
    GuestConfig,
    GuestSource,
    Health,
    Lookup,
    OrderFeed,
    Sweep,
    Unclear,
    User,
    untrusted_reading,
)
from domain.statistics.port import StatisticsSource
from panel.operators.repair_policy.policies import budget_of, handling_of
from panel.power.facts import PowerRules
from panel.runs import source_states
from panel.settings import ProxmoxCluster, Settings
from reconcile.decision.cases import Policy
from reconcile.power_actions import PowerWorker
from reconcile.run import Reconciler
from reconcile.run_phases import Progress, no_progress
from reconcile.vps_statistics import StatisticsReader
from sources.config import ClusterConfig, FeedKind, MainSiteConfig
from sources.main_site import make_feed
from sources.proxmox.circuit_breaker import CircuitBreaker, CircuitState
from sources.proxmox.cluster import ClusterSource
from sources.proxmox.power import ClusterPower
from sources.proxmox.statistics import ClusterStatistics

T = TypeVar("T")


class Times(NamedTuple):
    """Seconds for one request: to connect, until something arrives, and until all of it has."""

    connect_s: float
    read_s: float
    answer_s: float


POWER_TIMES = Times(3.0, 10.0, 12.0)
"""Shorter than those of lists: single guests and tasks are answered at once."""

STATISTICS_TIMES = Times(2.0, 5.0, 6.0)
"""Others wait for their graphs behind a node that hangs, if it does so with several of a cluster."""


@dataclass(frozen=True, slots=True)
class UnusableFeed:
    """Stands in for a main site whose configuration is unusable. Each method answers with the problem, so runs still
    read the clusters."""

    name: str
    problem: str
    names_are_authoritative: bool = False

    def users(self) -> Sweep[User]:
        """An empty read with the problem."""
        return Sweep(iter(()), problem=self.problem)

    def orders(
        self, updated_since: str | None = None, suspects: tuple[str, ...] = (), rolled_to: str | None = None
    ) -> Sweep[Order]:
        """An empty read with the problem."""
        del updated_since, suspects, rolled_to
        return Sweep(iter(()), problem=self.problem)

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:  # noqa: ARG002 - the port's
        """An unclear answer with the problem."""
        return Unclear(self.problem)

    def health(self) -> Health:
        """The problem."""
        return Health(ok=False, detail="not usable", problems=(self.problem,))


def feed_of(settings: Settings) -> OrderFeed | None:
    """The configured order feed, or None."""
    if not settings.main_site_url:
        return None
    try:
        return make_feed(
            MainSiteConfig(
                base_url=settings.main_site_url,
                api_key=settings.main_site_api_key,
                feed=FeedKind(settings.main_site_feed),
                panel_api_cluster=settings.panel_api_cluster or None,
                ca_file=settings.main_site_ca_file,
                proxy=_given(settings.main_site_proxy),
            )
        )
    except ValueError as error:  # for example an unreadable MAIN_SITE_CA_FILE: the clusters are still read
        return UnusableFeed(settings.main_site_feed, str(error))


def cluster_config(cluster: ProxmoxCluster) -> ClusterConfig:
    """The adapter's configuration of one entry of PROXMOX_CLUSTERS."""
    return ClusterConfig(
        name=cluster.name,
        urls=tuple(cluster.urls),
        token_id=cluster.token_id,
        token_secret=cluster.token_secret,
        ca_file=cluster.ca_file,
        fingerprint=cluster.fingerprint,
        proxy=_given(cluster.proxy),
        pools=tuple(cluster.pools),
    )


def _given(secret: SecretStr) -> SecretStr | None:
    return secret if secret.get_secret_value() else None


class RememberedCluster:
    """A cluster whose circuit breaker and last good endpoint are stored for all workers. So a refused token stops the
    requests of all workers, and a dead endpoint is not asked first again."""

    def __init__(self, source: ClusterSource, breaker: CircuitBreaker, engine: Engine) -> None:
        self._source, self._breaker, self._engine = source, breaker, engine
        self.cluster = source.cluster
        self._kept = (breaker.state, source.endpoint)

    def read(self) -> ClusterReading:
        """Read the list of all guests."""
        return self._remembered(self._source.read)

    def config(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        """Read one guest's configuration."""
        return self._remembered(lambda: self._source.config(node, guest_type, vmid))

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:
        """Ask whether one guest is gone."""
        return self._remembered(lambda: self._source.confirm(node, guest_type, vmid))

    def health(self) -> Health:
        """Check the cluster for ``doctor``."""
        return self._source.health()

    def _remembered(self, ask: Callable[[], T]) -> T:
        answer = ask()
        if (now := (self._breaker.state, self._source.endpoint)) != self._kept:
            _remember(self._engine, self._source)
            self._kept = now
        return answer


def _remember(engine: Engine, source: ClusterSource) -> None:
    """Store a cluster's circuit breaker and its last good endpoint."""
    plain = source.breaker.state.to_plain() | {"endpoint": source.endpoint}
    with engine.begin() as connection:
        source_states.remember_backoff(connection, f"proxmox:{source.cluster}", plain)


@dataclass(frozen=True, slots=True)
class UnusableCluster:
    """Stands in for a cluster whose configuration is unusable. Each method answers with the problem, so runs conclude
    nothing from it."""

    cluster: str
    problem: str

    def read(self) -> ClusterReading:
        """An empty, untrusted read with the problem."""
        return untrusted_reading(self.cluster, self.problem)

    def config(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:  # noqa: ARG002 - the port's
        """An unclear answer with the problem."""
        return Unclear(self.problem)

    def confirm(self, node: str, guest_type: GuestType, vmid: int) -> Lookup[GuestConfig]:  # noqa: ARG002 - the port's
        """An unclear answer with the problem."""
        return Unclear(self.problem)

    def health(self) -> Health:
        """The problem."""
        return Health(ok=False, detail="not usable", problems=(self.problem,))


def clusters_of(settings: Settings, engine: Engine, *, remember: bool = True) -> tuple[GuestSource, ...]:
    """The configured clusters, each with its stored circuit breaker. ``remember``: also store how it changes."""
    sources: list[GuestSource] = []
    with engine.connect() as connection:
        stored = source_states.backoff_states(connection, (f"proxmox:{name}" for name in settings.cluster_names))
    for cluster in settings.proxmox_clusters:
        try:
            source = _with_stored_state(cluster_config(cluster), stored)
        except ValueError as error:  # for example an unreadable ca_file: the other clusters are still read
            sources.append(UnusableCluster(cluster.name, str(error)))
        else:
            sources.append(RememberedCluster(source, source.breaker, engine) if remember else source)
    return tuple(sources)


def _with_stored_state(config: ClusterConfig, stored: Mapping[str, Mapping[str, Any]]) -> ClusterSource:
    """The cluster with what all processes know of it. Raises ``ValueError`` for a configuration that is unusable."""
    backoff = stored.get(f"proxmox:{config.name}", {})
    breaker = CircuitBreaker(CircuitState.from_plain(backoff))
    return ClusterSource(config, breaker, first=backoff.get("endpoint"))


def act(engine: Engine, settings: Settings, action_id: int) -> str:
    """Do the next step of a power action. Returns a short text."""
    rules = PowerRules.of(settings) if settings.power_actions else None
    with _single_guests(engine, settings, POWER_TIMES) as cluster_of:

        def source_of(name: str) -> PowerSource | None:
            return None if (cluster := cluster_of(name)) is None else ClusterPower(cluster)

        return PowerWorker(engine, source_of, rules).step(action_id)


def read_statistics(engine: Engine, settings: Settings, row_id: int) -> str:
    """Read the statistics of a VPS. Returns a short text."""
    with _single_guests(engine, settings, STATISTICS_TIMES) as cluster_of:

        def source_of(name: str) -> StatisticsSource | None:
            return None if (cluster := cluster_of(name)) is None else ClusterStatistics(cluster)

        return StatisticsReader(engine, source_of, PowerRules.of(settings)).read(row_id)


@contextlib.contextmanager
def _single_guests(engine: Engine, settings: Settings, times: Times) -> Iterator[Callable[[str], ClusterSource | None]]:
    """Clusters by name, for questions about single guests, with these times. None for one that is not configured, or
    unusably so, which doctor says. At the end their connections are closed, and what they learnt is stored."""
    made: dict[str, ClusterSource | None] = {}
    with contextlib.ExitStack() as after:

        def cluster_of(name: str) -> ClusterSource | None:
            if name not in made:
                made[name] = source = _cluster_with(engine, settings, name, times)
                if source is not None:
                    after.callback(source.close)
                    after.callback(_remember_if_changed, engine, source, (source.breaker.state, source.endpoint))
            return made[name]

        yield cluster_of


def _cluster_with(engine: Engine, settings: Settings, name: str, times: Times) -> ClusterSource | None:
    cluster = next((one for one in settings.proxmox_clusters if one.name == name), None)
    if cluster is None:
        return None
    try:
        config = replace(
            cluster_config(cluster),
            connect_timeout_s=times.connect_s,
            read_timeout_s=times.read_s,
            answer_timeout_s=times.answer_s,
        )
        with engine.connect() as connection:
            return _with_stored_state(config, source_states.backoff_states(connection, [f"proxmox:{name}"]))
    except ValueError:
        return None


def _remember_if_changed(engine: Engine, source: ClusterSource, before: tuple[CircuitState, str]) -> None:
    if (source.breaker.state, source.endpoint) != before:
        _remember(engine, source)


def policy_of(settings: Settings) -> Policy:
    """Grace times and the proof of absence."""
    return Policy(
        power_grace=timedelta(seconds=settings.power_grace_s),
        link_grace=timedelta(seconds=settings.link_grace_s),
        create_grace=timedelta(seconds=settings.create_grace_s),
        stuck_creating=timedelta(seconds=settings.stuck_creating_s),
        paid_missing_grace=timedelta(seconds=settings.paid_missing_grace_s),
        orphan_grace=timedelta(seconds=settings.orphan_grace_s),
        ended_retention=timedelta(seconds=settings.ended_retention_s),
        # With a longer interval between reads, an ordinary read must not count as a gap.
        read_gap=max(GAP, 4 * timedelta(seconds=settings.fast_interval_s)),
        proof_n=settings.absence_proof_n,
        proof_t=timedelta(seconds=settings.absence_proof_t_s),
    )


def reconciler(
    engine: Engine, settings: Settings, progress: Progress = no_progress, *, remember: bool = True
) -> Reconciler:
    """A reconciler with all that a run needs, from the settings. ``progress`` receives the progress of runs.
    ``remember``: store the clusters' circuit breakers for all workers, which a dry run must not do."""
    return Reconciler(
        engine=engine,
        feed=feed_of(settings),
        sources=clusters_of(settings, engine, remember=remember),
        policy=policy_of(settings),
        budget=budget_of(settings),
        shared_ids=settings.user_id_space == "shared",
        sweep_interval=timedelta(seconds=settings.sweep_interval_s),
        users_interval=timedelta(seconds=settings.users_interval_s),
        first_run_asks=not settings.demo,
        handling=handling_of(settings),
        interrupts=(SoftTimeLimitExceeded,),
        feed_age_max=timedelta(seconds=settings.feed_age_max_s),
        second_above=settings.second_approval_above,
        mend_within=timedelta(seconds=settings.mend_within_s),
        progress=progress,
    )
