"""``reconcile.run`` as it is asked for: by beat, by an operator, for one subject, while another run is under way."""

from __future__ import annotations

from typing import Any

import pytest

from reconcile.run import RunResult
from worker import tasks


class Runs:
    """Stands in for ``run_full``: the first ``busy`` calls find another run under way."""

    def __init__(self, busy: int) -> None:
        self._busy = busy
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, _reconciler: object, *, trigger: str, only: object) -> RunResult:
        self.asked.append((trigger, None if only is None else str(only)))
        if len(self.asked) <= self._busy:
            return RunResult(None, "busy", "another run is under way")
        return RunResult(1, "done", "nothing to repair")


@pytest.fixture
def runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs(request.param)
    monkeypatch.setattr(tasks, "run_full", made)
    for name in ("engine", "get_settings"):
        monkeypatch.setattr(tasks, name, lambda: None)
    monkeypatch.setattr(tasks, "reconciler", lambda *_: None)
    # What beat asked for is another test's (``test_duties``).
    monkeypatch.setattr(tasks, "_duty", lambda _name, work: work()[1])
    monkeypatch.setattr(tasks, "_note_outcome", lambda *_: None)
    return made


def result_of(*arguments: Any) -> object:
    return tasks.run.apply(args=arguments).get()


@pytest.mark.parametrize("runs", [0], indirect=True)
@pytest.mark.parametrize(
    ("trigger", "subject"),
    [("operator vps:17", "vps:17"), ("operator cluster:main", "cluster:main"), ("operator", None), ("beat", None)],
)
def test_an_operator_s_subject_is_read_from_the_trigger(runs: Runs, trigger: str, subject: str | None) -> None:
    assert result_of(trigger) == "nothing to repair"
    assert runs.asked == [(trigger, subject)]


@pytest.mark.parametrize("runs", [2], indirect=True)
def test_an_operator_s_run_waits_for_the_one_under_way(runs: Runs) -> None:
    assert result_of("operator vps:17") == "nothing to repair"
    assert runs.asked == [("operator vps:17", "vps:17")] * 3


@pytest.mark.parametrize("runs", [1], indirect=True)
def test_beat_s_run_does_not_wait(runs: Runs) -> None:
    assert result_of("beat") == "another run is under way"
    assert len(runs.asked) == 1
