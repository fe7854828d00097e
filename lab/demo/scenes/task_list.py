"""Flower shows operations and their results without personal data. At the end no call waits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from lab.demo.errors import DemoError
from lab.demo.screen import Sight
from lab.demo.stage import Stage
from lab.demo.world import CUSTOMERS
from runtime.processes.free_ports import LOOPBACK

TITLE = "What Flower shows"
LIMIT = 5000

APPLY_ARGUMENTS = re.compile(r"op=\d+ vps=\d+ (create|update|delete)")
APPLY_RESULT = re.compile(r"applied \w+ -> \w+")
RUN_RESULT = re.compile(r"vps=\d+ \w+ -> \w+")

Task = Mapping[str, Any]


def play(stage: Stage) -> None:
    """Ask Flower's own API, with its password."""
    stage.until(
        "Flower shows what was applied and what reconciliation repaired",
        lambda: all(examples(_tasks(stage)).values()),
        seen=lambda: str(examples(_tasks(stage))),
        logs=("flower",),
    )
    tasks = _tasks(stage)
    names = {c.username for c in CUSTOMERS} | {c.email for c in CUSTOMERS}
    names |= {order.name for order in stage.site.list_orders()}
    if leaked := personal_data(tasks, names):
        raise DemoError("Flower shows no personal data", ", ".join(sorted(leaked)), ("flower",))
    for kind, example in examples(tasks).items():
        stage.screen.call(f"{kind}: {example}")
    stage.screen.right(f"{len(tasks)} tasks without any customer's name or address")
    apply = examples(tasks)["sync.apply"] or ""
    stage.sights.append(Sight(TITLE, "none", f"{len(tasks)} tasks without personal data", "at once", apply))
    _nothing_left_over(stage)


def examples(tasks: Iterable[Task]) -> dict[str, str | None]:
    """For each kind of task that must be there an example of its arguments and result; None if there is none."""
    by_kind: dict[str, str | None] = {"sync.apply": None, "reconcile.run": None}
    for task in tasks:
        name, shown = str(task["name"]), f"{task['args']} {task['kwargs']}"
        result = str(task["result"])
        if name == "sync.apply" and APPLY_ARGUMENTS.search(shown) and APPLY_RESULT.search(result):
            by_kind[name] = f"{APPLY_ARGUMENTS.search(shown)[0]} => {APPLY_RESULT.search(result)[0]}"  # type: ignore[index]
        if name == "reconcile.run" and RUN_RESULT.search(result):
            by_kind[name] = f"{shown.strip()} => {result}"
    return by_kind


def personal_data(tasks: Iterable[Task], names: Iterable[str]) -> set[str]:
    """Those of the names that are in any task's arguments, result or exception."""
    shown = "\n".join(f"{task['args']} {task['kwargs']} {task['result']} {task['exception']}" for task in tasks)
    return {name for name in names if re.search(rf"\b{re.escape(name)}\b", shown)}


def _tasks(stage: Stage) -> list[Task]:
    settings = stage.settings
    answer = httpx.get(
        f"http://{LOOPBACK}:{settings.flower_port}/api/tasks",
        params={"limit": LIMIT},
        auth=(settings.flower_user, settings.flower_password.get_secret_value()),
        trust_env=False,
        timeout=10,
    )
    if not answer.is_success:
        raise DemoError("Flower answers with its password", str(answer.status_code), ("flower",))
    tasks: dict[str, Task] = answer.json()
    return list(tasks.values())


def _nothing_left_over(stage: Stage) -> None:
    stage.until_true("every client sees the truth")
    if waiting := stage.journal.queued_operations():
        raise DemoError("nothing waits at the end", f"{waiting} operations", ("worker-sync", "api"))
