"""Reading Flower's list of tasks."""

from __future__ import annotations

from typing import Any

import pytest

from lab.demo.scenes.task_list import examples, personal_data


def task(name: str, args: str, result: str | None) -> dict[str, Any]:
    return {"name": name, "args": args, "kwargs": "", "result": result, "exception": None}


APPLY = task("sync.apply", "op=8123 vps=17 update", "'applied running -> stopped'")
RUN = task("reconcile.run", "beat", "'applied vps=17 running -> stopped'")


def test_examples_are_found() -> None:
    assert examples([APPLY, RUN]) == {
        "sync.apply": "op=8123 vps=17 update => applied running -> stopped",
        "reconcile.run": "beat => 'applied vps=17 running -> stopped'",
    }


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(task("sync.apply", "(8123,)", APPLY["result"]), id="arguments say nothing"),
        pytest.param(task("sync.apply", APPLY["args"], None), id="no result yet"),
        pytest.param(task("sync.apply", APPLY["args"], "'already applied'"), id="a doubled message"),
        pytest.param(task("reconcile.run", "beat", "'nothing to repair'"), id="a quiet run"),
    ],
)
def test_what_is_no_example(other: dict[str, Any]) -> None:
    assert examples([other])[other["name"]] is None


def test_names_are_found_as_words() -> None:
    told = task("sync.apply", "op=1 vps=1 update", "'applied anna's web-01'")
    assert personal_data([told, RUN], {"anna", "web-01", "boris", "app"}) == {"anna", "web-01"}
