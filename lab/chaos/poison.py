"""Poison calls, which the database refuses at every attempt until they are dead. An operator then cures and requeues
them, or discards them. If a run changed the VPS meanwhile, the panel refuses to requeue, and the operator discards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import httpx
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from lab.chaos.calls import SYNC_PATH
from lab.chaos.message_faults import BrokerAwayError, ring
from panel.journal.writer import MAX_ATTEMPTS

LOOK_S = 0.5
RING_S = 2.0
"""How often a message is sent for the call. Without these messages it would be dead only after half a minute."""

NOT_NEEDED = "no longer needed"

CHANGED_SINCE = "was changed since; this call would undo that change"
"""How the panel's refusal to requeue ends when the record was changed after the call had died."""

TRIED_AGAIN = "tried once more as operation "
"""How the reason of a requeued call begins. The new operation's number follows."""


class _GivenUpError(Exception):
    """The play no longer waits for the poison calls."""


@dataclass(slots=True)
class Poisoner:
    """One machine's poison calls, one after the other, made by a thread of its own. ``database``: as superuser.

    Each step is repeated until it succeeds, because API, Redis and PostgreSQL fail meanwhile.
    """

    url: str
    sync_key: str
    ops_key: str
    redis_url: str
    database: Engine
    vps_id: int
    wrong: list[str] = field(default_factory=list)
    requeued: int = 0
    discarded: int = 0
    struck: int = 0
    _todo: SimpleQueue[bool | None] = field(default_factory=SimpleQueue)
    _at: str = "nothing"
    _rung: float = 0.0
    _thread: threading.Thread | None = None
    _given_up: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Make the trigger that refuses poison calls, and start the thread."""
        with self.database.begin() as connection:
            for statement in (CURED, FUNCTION, TRIGGER):
                connection.execute(text(statement))
        self._thread = threading.Thread(target=self._work, name="poison", daemon=True)
        self._thread.start()

    def strike(self, *, discard: bool) -> None:
        """Order one more poison call. When it is dead, it is discarded or requeued."""
        self.struck += 1
        self._todo.put(discard)

    def finish(self, timeout_s: float, meanwhile: Callable[[], None]) -> None:
        """Wait for the calls in progress after all faults are over. ``meanwhile`` restarts the parts that died last."""
        self._todo.put(None)
        until = time.monotonic() + timeout_s
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < until:
            meanwhile()
            self._thread.join(LOOK_S)
        self._given_up.set()
        if open_ := self.struck - self.requeued - self.discarded:
            self.wrong.append(f"{open_} poison calls are not finished; the first waits for this: {self._at}")

    def _work(self) -> None:
        number = 0
        with suppress(_GivenUpError):
            while (discard := self._todo.get()) is not None:
                number += 1
                self._poison(f"poison-{self.vps_id}-{number}", discard=discard)

    def _poison(self, mark: str, *, discard: bool) -> None:
        operation = self._until(f"{mark} is accepted", lambda: self._accepted(mark))
        dead = self._until(f"operation {operation} is dead", lambda: self._dead(operation))
        # One attempt fewer if two ran at the same time: each notes that it began.
        if dead.attempts < MAX_ATTEMPTS - 1:
            self.wrong.append(f"operation {operation} was dead after {dead.attempts} attempts")
        decision = "discard" if discard else "requeue"
        if not discard:
            self._until(f"{mark} is cured", lambda: self._cured(mark))
        after = self._until(f"operation {operation}: {decision}", lambda: self._decided(operation, decision))
        if after.state == "rejected" and (discard or (after.reason or "").endswith(CHANGED_SINCE)):
            self.discarded += 1
            return
        if discard or after.state != "superseded" or not (after.reason or "").startswith(TRIED_AGAIN):
            self.wrong.append(f"operation {operation} is {after.state} ({after.reason}) after {decision}")
            return
        again = int(after.reason.removeprefix(TRIED_AGAIN).partition(",")[0])
        self._until(f"operation {again} is applied", lambda: self._row(again).state == "applied" or None)
        self.requeued += 1

    def _until(self, what: str, done: Callable[[], Any]) -> Any:  # noqa: ANN401 - a row, or a number
        self._at = what
        while not self._given_up.is_set():
            with suppress(httpx.HTTPError, DBAPIError, PoolTimeoutError, BrokerAwayError):
                if (outcome := done()) is not None:
                    return outcome
            time.sleep(LOOK_S)
        raise _GivenUpError

    def _accepted(self, mark: str) -> int | None:
        vps = {"id": self.vps_id, "status": "running", "os": mark}
        headers = {"X-API-Key": self.sync_key, "Idempotency-Key": mark}
        answer = httpx.post(
            self.url + SYNC_PATH, json={"action": "update", "vps": vps}, headers=headers, timeout=10, trust_env=False
        )
        return int(answer.json()["operation"]["id"]) if answer.status_code == 202 else None

    def _dead(self, operation: int) -> Any:  # noqa: ANN401
        row = self._row(operation)
        if row.state == "queued":
            self._at = f"operation {operation} is queued after {row.attempts} attempts"
            if time.monotonic() - self._rung >= RING_S:
                self._rung = time.monotonic()
                ring(self.redis_url, [operation])
            return None
        if row.state != "dead":
            self.wrong.append(f"operation {operation}, which no worker can apply, is {row.state}")
        return row

    def _cured(self, mark: str) -> bool:
        with self.database.begin() as connection:
            connection.execute(text("INSERT INTO chaos_cured VALUES (:mark) ON CONFLICT DO NOTHING"), {"mark": mark})
        return True

    def _decided(self, operation: int, decision: str) -> Any:  # noqa: ANN401
        row = self._row(operation)
        if row.state != "dead":
            return row
        answer = self._post_decision(operation, decision, None if decision == "requeue" else NOT_NEEDED)
        if answer.status_code == httpx.codes.CONFLICT and answer.json()["message"].endswith(CHANGED_SINCE):
            self._post_decision(operation, "discard", answer.json()["message"])
        return None

    def _post_decision(self, operation: int, decision: str, reason: str | None) -> httpx.Response:
        return httpx.post(
            f"{self.url}/api/ops/dead/{operation}/{decision}",
            json=None if reason is None else {"reason": reason},
            headers={"X-API-Key": self.ops_key},
            timeout=10,
            trust_env=False,
        )

    def _row(self, operation: int) -> Any:  # noqa: ANN401
        with self.database.connect() as connection:
            return connection.execute(ROW, {"id": operation}).one()


ROW = text("SELECT state, attempts, reason FROM operations WHERE id = :id")
CURED = "CREATE TABLE IF NOT EXISTS chaos_cured (mark text PRIMARY KEY)"
FUNCTION = """
CREATE OR REPLACE FUNCTION chaos_refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
$$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM chaos_cured WHERE mark = NEW.payload ->> 'os') THEN
    RAISE EXCEPTION 'refused' USING ERRCODE = '22023';
  END IF;
  RETURN NEW;
END $$
"""
# At the call, not at the record: a set writes a record once, with what the last of its calls says.
TRIGGER = (
    "CREATE OR REPLACE TRIGGER chaos_refuse BEFORE UPDATE ON operations FOR EACH ROW"
    " WHEN (NEW.state = 'applied' AND NEW.payload ->> 'os' LIKE 'poison-%') EXECUTE FUNCTION chaos_refuse()"
)
