"""Every fault as data: how it begins, how it ends, and a sentence that describes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from lab.chaos.rig import Rig
from lab.chaos.schedule import Kind
from lab.simulators.main_site.faults import CallFaultKind, FeedFaultKind
from lab.simulators.proxmox.verbs import ProxmoxVerbs

Act = Callable[[Rig, int], None]

REFUSED_TOKEN_S = 70.0
"""After a refused token the panel asks the cluster nothing for a minute, so recovery takes longer than that."""

_SHORT = (1.0, 3.0)
_LONG = (3.0, 8.0)
_FROZEN = (3.0, 6.0)  # longer than the interval at which a beat checks its lock


def _nothing(_rig: Rig, _choice: int) -> None:
    """The end of a fault that ends by itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``end`` undoes ``begin``. Faults of the outside have no ``end``: the player clears their simulator's faults."""

    kind: Kind
    begin: Act
    end: Act = _nothing


def _calls(name: str, fault: CallFaultKind, sentence: str, *, delay_s: float = 0.0) -> Fault:
    def begin(rig: Rig, _choice: int) -> None:
        rig.site.fault_calls(fault, times=None, delay_s=delay_s)

    return Fault(Kind(name, "calls", sentence, _LONG), begin)


def _feed(name: str, fault: FeedFaultKind, sentence: str, *, value: float | None = None) -> Fault:
    def begin(rig: Rig, _choice: int) -> None:
        rig.site.fault_feed(fault, value=value)

    return Fault(Kind(name, "feed", sentence, _LONG), begin)


def _proxmox(name: str, act: Callable[[ProxmoxVerbs], None], sentence: str, *, heals_s: float = 0.0) -> Fault:
    def begin(rig: Rig, choice: int) -> None:
        act(cluster_of(rig, choice))

    return Fault(Kind(name, "proxmox", sentence, _LONG, heals_s, places=2), begin)


def cluster_of(rig: Rig, choice: int) -> ProxmoxVerbs:
    """The cluster that a choice hits."""
    return list(rig.clusters.values())[choice % len(rig.clusters)]


# --- the panel's own parts


def _kill_worker(rig: Rig, choice: int) -> None:
    rig.kill(rig.pick("worker", choice))


def _kill_workers(rig: Rig, _choice: int) -> None:
    for worker in rig.named("worker"):
        rig.kill(worker)


def _kill_beat(rig: Rig, _choice: int) -> None:
    rig.kill(rig.active_beat())


def _kill_api(rig: Rig, _choice: int) -> None:
    rig.kill(rig.pick("api", 0))


def _freeze_beat(rig: Rig, _choice: int) -> None:
    beat = rig.active_beat()
    if beat.running:
        beat.pause()
        # All beats lose their sessions. The frozen one cannot notice that it lost its lock.
        rig.cut_connections("panel-sync beat")


def _freeze_reconciler(rig: Rig, choice: int) -> None:
    workers = rig.reconcilers()
    worker = workers[choice % len(workers)]
    if worker.running:
        worker.pause()
        rig.cut_connections("panel-sync worker")


def _thaw(rig: Rig, _choice: int) -> None:
    for part in (*rig.named("beat"), *rig.named("worker")):
        part.resume()


def _kill_redis(rig: Rig, _choice: int) -> None:
    rig.redis.kill()
    rig.kills += 1


def _start_redis(rig: Rig, _choice: int) -> None:
    rig.redis.start()


def _freeze_redis(rig: Rig, _choice: int) -> None:
    rig.redis.pause()


def _thaw_redis(rig: Rig, _choice: int) -> None:
    rig.redis.resume()


def _flush_redis(rig: Rig, _choice: int) -> None:
    rig.flush_redis()


def _empty_redis(rig: Rig, _choice: int) -> None:
    rig.redis.kill()
    rig.kills += 1
    for kept in rig.redis.data_dir.glob("appendonly*"):
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()


def _cut(rig: Rig, _choice: int) -> None:
    rig.cut_connections()


def _kill_postgres(rig: Rig, _choice: int) -> None:
    rig.postgres.kill()
    rig.kills += 1


def _freeze_postgres(rig: Rig, _choice: int) -> None:
    rig.postgres.pause()
    rig.database_frozen = True


def _thaw_postgres(rig: Rig, _choice: int) -> None:
    rig.postgres.resume()
    rig.database_frozen = False


def _partition_redis(rig: Rig, _choice: int) -> None:
    rig.proxy.partition()


def _heal_redis(rig: Rig, _choice: int) -> None:
    rig.proxy.heal()


def _fill_pool(rig: Rig, _choice: int) -> None:
    rig.limit_connections(0)
    rig.cut_connections()


def _empty_pool(rig: Rig, _choice: int) -> None:
    rig.limit_connections(-1)


def _poison(rig: Rig, choice: int) -> None:
    if rig.poisoner is not None:
        rig.poisoner.strike(discard=choice % 2 == 1)


def _hold_messages(rig: Rig, _choice: int) -> None:
    rig.hold_workers()


def _shuffle_messages(rig: Rig, _choice: int) -> None:
    rig.shuffle_messages()
    rig.release_workers()


def _keep_messages_back(rig: Rig, _choice: int) -> None:
    rig.keep_messages_back()
    rig.release_workers()


def _start_postgres(rig: Rig, _choice: int) -> None:
    rig.postgres.start()


FAULTS: tuple[Fault, ...] = (
    _calls("calls-dropped", CallFaultKind.DROP, "the main site's calls are lost"),
    _calls("calls-doubled", CallFaultKind.DUPLICATE, "the main site's calls arrive twice"),
    _calls("calls-delayed", CallFaultKind.DELAY, "the main site's calls arrive 2 s later", delay_s=2.0),
    _calls("calls-reordered", CallFaultKind.REORDER, "the main site's calls arrive after their successors"),
    _calls("answers-lost", CallFaultKind.LOSE_ANSWER, "the answers to the main site's calls are lost"),
    _feed("feed-truncated", FeedFaultKind.CUT_BODY, "the feed's answers end in mid body"),
    _feed("feed-5xx", FeedFaultKind.STATUS, "the feed answers 503", value=503),
    _feed("feed-401", FeedFaultKind.UNAUTHORIZED, "the feed refuses the panel's key"),
    _feed("feed-html", FeedFaultKind.HTML, "the feed answers with a proxy's page"),
    _feed("feed-slow", FeedFaultKind.SLOW, "the feed takes 2 s longer", value=2.0),
    _feed("feed-empty", FeedFaultKind.EMPTY, "the feed is empty, and says that it is complete"),
    _feed("feed-shrunk", FeedFaultKind.SHRINK, "the feed shows a third of the orders as complete", value=0.3),
    _feed("feed-torn", FeedFaultKind.TOTAL_CHANGES, "the feed's pages disagree about the total"),
    _feed("feed-repeated", FeedFaultKind.REPEAT_ID, "the feed repeats a row"),
    _feed("feed-empty-page", FeedFaultKind.EMPTY_PAGE, "the feed gives an empty page and a cursor"),
    _feed("feed-old", FeedFaultKind.AS_OF_LAG, "the feed is an hour old, and says so", value=3600.0),
    _feed("feed-undated", FeedFaultKind.NO_AS_OF, "the feed does not say how old it is"),
    Fault(
        Kind("feed-frozen", "feed", "the feed keeps showing the same moment", _LONG),
        lambda rig, _: rig.site.freeze_feed(),
    ),
    Fault(
        Kind("clock-skewed", "feed", "the main site's clock is 90 s ahead", _LONG),
        lambda rig, _: rig.site.skew_clock(90.0),
    ),
    _proxmox("token-blind", lambda pve: pve.blind_token(), "a cluster's token sees nothing"),
    _proxmox("all-unknown", lambda pve: pve.all_unknown(), "a cluster shows every guest as unknown"),
    _proxmox("list-empty", lambda pve: pve.empty_list(), "a cluster lists no guest"),
    _proxmox("list-frozen", lambda pve: pve.freeze_list(), "a cluster keeps listing the same moment: stale states"),
    _proxmox("node-offline", lambda pve: pve.set_node_online("pve2", online=False), "a node of a cluster is offline"),
    _proxmox("no-quorum", lambda pve: pve.set_quorum(quorate=False), "a cluster has no quorum"),
    _proxmox("proxmox-595", lambda pve: pve.fail_node("pve1", 595), "requests for a node end with 595"),
    _proxmox("proxmox-596", lambda pve: pve.fail_node("pve1", 596), "requests for a node end with 596"),
    _proxmox("proxmox-500", lambda pve: pve.fail_answers("/cluster"), "a cluster answers 500"),
    _proxmox("proxmox-truncated", lambda pve: pve.truncate_answers("/cluster"), "a cluster's answers end in mid body"),
    _proxmox("proxmox-slow", lambda pve: pve.slow_down(2.0), "a cluster takes 2 s longer"),
    _proxmox(
        "proxmox-401", lambda pve: pve.revoke_token(), "a cluster refuses the panel's token", heals_s=REFUSED_TOKEN_S
    ),
    Fault(Kind("worker-killed", "workers", "a worker is killed"), _kill_worker),
    Fault(Kind("workers-killed", "workers", "all workers are killed at once"), _kill_workers),
    Fault(
        Kind("worker-frozen", "workers", "a worker freezes, its connections are cut, and it wakes up", _FROZEN),
        _freeze_reconciler,
        _thaw,
    ),
    Fault(
        Kind("messages-shuffled", "workers", "messages wait, then come twice, the last one first", _SHORT),
        _hold_messages,
        _shuffle_messages,
    ),
    Fault(
        Kind("messages-late", "workers", "messages wait, and come after all other faults", _SHORT),
        _hold_messages,
        _keep_messages_back,
    ),
    Fault(Kind("call-poisoned", "poison", "the database refuses a call at every attempt"), _poison),
    Fault(Kind("beat-killed", "beats", "the beat that schedules is killed", (6.0, 6.0)), _kill_beat),
    Fault(
        Kind("beat-frozen", "beats", "the beat that schedules freezes until it loses its lock, and wakes up", _FROZEN),
        _freeze_beat,
        _thaw,
    ),
    Fault(Kind("api-killed", "api", "the API is killed"), _kill_api),
    Fault(Kind("redis-killed", "redis", "Redis is killed", _SHORT), _kill_redis, _start_redis),
    Fault(Kind("redis-frozen", "redis", "Redis freezes with its connections open", _LONG), _freeze_redis, _thaw_redis),
    Fault(
        Kind("redis-partitioned", "redis", "no byte passes between the panel and Redis", _LONG),
        _partition_redis,
        _heal_redis,
    ),
    Fault(Kind("redis-flushed", "redis", "everything in Redis is deleted"), _flush_redis),
    Fault(Kind("redis-emptied", "redis", "Redis loses its disk and starts empty", _SHORT), _empty_redis, _start_redis),
    Fault(Kind("connections-cut", "postgres", "PostgreSQL cuts all of the panel's connections"), _cut),
    Fault(
        Kind("postgres-killed", "postgres", "PostgreSQL is killed and recovers", (0.5, 1.5)),
        _kill_postgres,
        _start_postgres,
    ),
    Fault(
        Kind("postgres-frozen", "postgres", "PostgreSQL freezes with its connections open", _SHORT),
        _freeze_postgres,
        _thaw_postgres,
    ),
    Fault(
        Kind("no-connection-left", "postgres", "PostgreSQL refuses every connection of the panel", _SHORT),
        _fill_pool,
        _empty_pool,
    ),
)

BY_NAME = {fault.kind.name: fault for fault in FAULTS}
KINDS = tuple(fault.kind for fault in FAULTS)
LOAD_KINDS = tuple(k for k in KINDS if not k.outside)
"""The faults of the panel's own parts, for a run under load."""
