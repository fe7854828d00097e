"""What is known of a cluster's endpoints outlives the process that learnt it."""

from __future__ import annotations

from sqlalchemy import Engine

from panel.runs import source_states
from sources.proxmox.circuit_breaker import CircuitBreaker
from tests.unit.sources.fake_cluster import NO_QUORUM, FakeCluster, data, refusal, source_of
from worker.wiring import RememberedCluster

URLS = ("https://one.test:8006", "https://two.test:8006")
SOURCE = "proxmox:main"


def stored_backoff(engine: Engine) -> dict[str, object]:
    with engine.connect() as connection:
        return dict(source_states.source_state(connection, SOURCE).get("backoff_state") or {})


def test_the_endpoint_that_was_good_is_remembered_beside_the_circuit_and_the_lateness(engine: Engine) -> None:
    with engine.begin() as connection:
        source_states.note_late(connection, SOURCE, "fast")
    breaker = CircuitBreaker()
    cluster = FakeCluster().but("one.test /cluster/status", data(NO_QUORUM))
    remembered = RememberedCluster(source_of(cluster, urls=URLS, breaker=breaker), breaker, engine)
    assert remembered.read().trusted
    assert stored_backoff(engine)["endpoint"] == "two.test:8006"
    assert stored_backoff(engine)["refusals"] == 0
    cluster.but("/version", refusal(401))
    assert not remembered.read().trusted
    assert stored_backoff(engine)["refusals"] == 1
    assert stored_backoff(engine)["endpoint"] == "two.test:8006"
    with engine.begin() as connection:
        assert source_states.late_until(connection, SOURCE, "fast") is not None, "nor does it forget who was late"
