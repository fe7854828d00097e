"""``panel-sync run --seed-example``: the integration guide's four commands, pasted, and what the guide promises.

The commands are those that the panel itself prints; where there is no curl, httpx makes the same requests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from panel.settings import PLACEHOLDER_SYNC_KEY
from runtime.processes.children import descendants
from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import ManagedProcess
from tests.support.programs import programs_below
from tests.support.waiting import PATIENCE_S, PATIENT_API_S, wait_until

pytestmark = pytest.mark.acceptance

COMMANDS = 4


@dataclass(frozen=True, slots=True)
class Example:
    """The running example, its four printed commands in order: create, update, delete, list."""

    process: ManagedProcess
    directory: Path
    commands: tuple[str, ...]

    @property
    def create(self) -> str:
        return self.commands[0]

    @property
    def update(self) -> str:
        return self.commands[1]

    @property
    def delete(self) -> str:
        return self.commands[2]

    def listed(self) -> list[dict[str, Any]]:
        code, answer = paste(self.commands[3])
        assert code == 200
        assert answer["status"] == "success"
        found: list[dict[str, Any]] = answer["data"]
        return found

    def wait_listed(self, expected: Callable[[list[dict[str, Any]]], bool], what: str) -> list[dict[str, Any]]:
        return wait_until(lambda: [self.listed()] if expected(self.listed()) else [], what)[0]


def by_curl(command: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a command given to a shell as it is, but for the wish to see the status too."""
    ran = subprocess.run(  # noqa: S603 - the command is what is tested
        [shutil.which("bash") or "sh", "-c", f"{command} --silent --show-error --write-out '\\n%{{http_code}}'"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    body, _, code = ran.stdout.rpartition("\n")
    return int(code), json.loads(body)


def by_httpx(command: str) -> tuple[int, dict[str, Any]]:
    """Status and body of the request that curl would make."""
    words = iter(shlex.split(command.replace("\\\n", " "))[1:])
    method, url, body, headers = "GET", "", None, {}
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                body = next(words)
            case _:
                url = word
    answer = httpx.request(method, url, headers=headers, content=body, trust_env=False, timeout=120)
    return answer.status_code, answer.json()


paste = by_curl if shutil.which("curl") else by_httpx


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    directory = tmp_path_factory.mktemp("seed-example")
    port = free_port()
    process = ManagedProcess(
        "run",
        [sys.executable, "-P", "-m", "cli.main", "run", "--seed-example"],
        {
            **os.environ,
            "PANEL_DATA_DIR": str(directory / "data"),
            "PORT": str(port),
            "ANSWER_WITHIN_S": str(PATIENT_API_S),
            "FLOWER_PORT": str(free_port()),
        },
        directory / "run.log",
        ready=lambda: len(printed(process.log_path)) == COMMANDS,
        stop_grace_s=PATIENCE_S,
        death_signal=signal.SIGTERM,
        cwd=directory,
        ready_timeout_s=600,  # of a whole panel
    )
    process.start()
    try:
        process.wait_ready()
        yield Example(process, directory, printed(process.log_path))
    finally:
        process.stop()


def printed(log: Path) -> tuple[str, ...]:
    """The complete commands in what the example has said so far."""
    text = log.read_text(encoding="utf-8")
    starts = [found.start() for found in re.finditer(r"^curl ", text, re.MULTILINE)]
    paragraphs = (text[start:].partition("\n\n")[0].rstrip() for start in starts)
    return tuple(command for command in paragraphs if command.endswith(("'", '"')))


def changed(command: str, changes: Mapping[str, str]) -> str:
    """The command with something of it wrong."""
    for old, new in changes.items():
        assert old in command
        command = command.replace(old, new)
    return command


def test_four_commands_behave_as_the_guide_says(example: Example) -> None:
    assert len(example.commands) == COMMANDS

    code, answer = paste(example.create)
    assert (code, answer["status"], answer["vps"]["id"]) == (202, "success", 1)  # the guide goes on with id 1
    shown = example.wait_listed(lambda rows: len(rows) == 1, "the client to see the VPS")[0]
    expected = {
        "id": 1, "user_id": 5, "name": "test-vps-01", "status": "creating", "cpu": 4, "ram": 8192, "disk": 100,
        "os": "Ubuntu 22.04 LTS", "hypervisor": "proxmox",
    }  # fmt: skip
    assert {name: shown[name] for name in expected} == expected

    code, answer = paste(example.update)
    assert (code, answer["status"], answer["vps"]["status"]) == (202, "success", "running")
    example.wait_listed(lambda rows: rows[0]["status"] == "running", "the client to see it running")

    code, answer = paste(example.delete)
    assert (code, answer["status"]) == (202, "success")
    example.wait_listed(lambda rows: not rows, "the client to see it no more")

    # Once more: it is gone, which is what was asked for.
    code, answer = paste(example.delete)
    assert (code, answer["status"]) == (200, "success")
    assert "already" in answer["message"]
    code, answer = paste(example.update)
    assert (code, answer["code"]) == (404, "vps_deleted")


REFUSED: dict[str, tuple[int, dict[str, str], int, str, str]] = {
    # which command, what is changed in it, status, code, message
    "wrong key": (0, {PLACEHOLDER_SYNC_KEY: "x" * 40}, 401, "invalid_api_key", "Invalid or missing API key"),
    "no key": (0, {f"X-API-Key: {PLACEHOLDER_SYNC_KEY}": "X-Other: 1"}, 401, "invalid_api_key",
               "Invalid or missing API key"),
    "no action": (0, {'"action": "create", ': ""}, 400, "missing_fields", "Missing required fields: action"),
    "no vps": (2, {', "vps": {"id": 1}': ""}, 400, "missing_fields", "Missing required fields: vps"),
    "create without cpu and os": (0, {'"cpu": 4, ': "", '"os": "Ubuntu 22.04 LTS", ': ""}, 400, "missing_fields",
                                  "Missing required fields: vps.cpu, vps.os"),
    "update without a status": (1, {', "status": "running"': ""}, 400, "missing_fields",
                                "Missing required fields: vps.status"),
    "delete without an id": (2, {'"id": 1': ""}, 400, "missing_fields", "Missing required fields: vps.id"),
    "user unknown": (0, {'"user_id": 5': '"user_id": 6'}, 422, "user_unknown",
                     "User 6 does not exist in the panel database"),
    "no token": (3, {"Authorization": "X-Other"}, 401, "", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_the_guide_says(example: Example, case: str) -> None:
    which, changes, status, code, message = REFUSED[case]
    before = example.listed()
    answered, problem = paste(changed(example.commands[which], changes))
    assert answered == status
    assert problem["status"] == status
    if message:
        assert (problem["code"], problem["message"]) == (code, message)
    assert example.listed() == before


def test_same_requests_without_curl(example: Example) -> None:
    """The stand-in for curl is used on machines without it; here it is held to the same answers."""
    wrong_key = changed(example.create, {PLACEHOLDER_SYNC_KEY: "x" * 40})
    answers = [
        {name: value for name, value in ask(wrong_key)[1].items() if name != "request_id"} for ask in (paste, by_httpx)
    ]
    assert answers[0] == answers[1]
    assert by_httpx(example.commands[3])[0] == 200


def test_example_in_a_hurry_leaves_nothing_behind(example: Example) -> None:
    """Last in this module: asked a second time, it kills what would have taken its time."""
    below = descendants(example.process.pid)
    assert {"postgres", "redis-server"} <= set(programs_below(example.process.pid))
    example.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "process=api" in stopped(example.process.log_path), "it to begin to stop")
    example.process.send_signal(signal.SIGTERM)
    assert example.process.wait_exit(120)
    assert example.process.stop() == 0
    wait_until(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists()], "every process to end")
    assert not (example.directory / "data" / "seed-example" / "postgres").exists()


def stopped(log: Path) -> str:
    """What the log says of processes that were stopped."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if "process_stopped" in line)
