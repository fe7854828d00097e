"""Stories of what monitoring is told of a run and of what it mended."""

from __future__ import annotations

from api.operators.operator_models import Metrics
from panel.operators.metrics import metrics
from tests.stories.steps import execute, sell_converged
from tests.support.bench import Bench


def test_how_long_a_difference_had_stood_and_where_a_run_spent_its_time(world: Bench) -> None:
    sold = sell_converged(world)
    world.pve.set_status(sold.vmid, "stopped")
    world.fast()
    execute(
        world,
        "UPDATE guests SET power_since = power_since - interval '10 minutes' WHERE power = 'stopped'",
    )
    execute(world, "UPDATE vps SET power_changed_at = power_changed_at - interval '5 minutes'")
    world.fast()
    world.run()
    with world.engine.connect() as connection:
        numbers = Metrics.model_validate(metrics(connection))
    repairs = {one.kind: one for one in numbers.repairs}
    assert 300 <= (repairs["missed-status"].median_s or 0) < 600, "a call had said so five minutes ago"
    assert repairs["missed-status"].longest_s == repairs["missed-status"].p95_s == repairs["missed-status"].median_s
    runs = {one.kind: one for one in numbers.runs}
    assert runs["fast"].phases.keys() == {"read_ahead", "lease", "clusters", "power", "report"}
    full = runs["full"].phases
    assert full.keys() >= {"orders", "fingerprints", "select", "decide", "gate", "apply", "report"}
    assert 0 < full["clusters"].mean_s <= full["clusters"].longest_s
    assert runs["full"].longest_s is not None
    (last,) = world._rows("SELECT counts -> 'phases' AS phases FROM runs ORDER BY id DESC LIMIT 1")
    assert (
        sum(last["phases"].values())
        <= runs["full"].longest_s + full["read_ahead"].longest_s + full["lease"].longest_s + 1
    )
