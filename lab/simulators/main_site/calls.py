"""The main site's calls to the panel, in the documented form, with the faults of a real network."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import httpx

from lab.simulators.main_site.faults import Action, CallFault, CallFaultKind, FaultBook

CALL_TIMEOUT_S = 30.0
SYNC_PATH = "/api/vps/sync"


class CallOutcome(StrEnum):
    """How a call ended, as the main site sees it."""

    ANSWERED = "answered"  # 2xx, and the answer was read
    REFUSED = "refused"  # the panel refused the call
    UNREACHABLE = "unreachable"  # no answer came
    DROPPED = "dropped"  # never sent
    ANSWER_LOST = "answer-lost"  # sent, but its answer was not read
    WAITING = "waiting"  # held back, to be sent later
    IMPOSSIBLE = "impossible"  # the site knows no id to send


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call: the `body` as sent (without any key), and the `status`, ids and message of the panel's answer.

    `seq` grows by one with every call that the site wanted to make. `deliveries`: how often it was sent.
    """

    seq: int
    action: Action
    order_id: int
    body: dict[str, Any]
    outcome: CallOutcome
    deliveries: int = 0
    status: int | None = None
    vps_id: int | None = None
    operation_id: int | None = None
    message: str | None = None


class PanelCaller:
    """Sends sync calls to one panel and keeps a record of each. Thread-safe.

    `on_answer(action, order_id, vps_id)` gets the `result.vps.id` of every answer that was read.
    """

    def __init__(self, panel_url: str, sync_key: str, on_answer: Callable[[Action, int, int], None]) -> None:
        self._client = httpx.Client(
            base_url=panel_url, headers={"X-API-Key": sync_key}, timeout=CALL_TIMEOUT_S, trust_env=False
        )
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._records: list[CallRecord] = []
        self._held: list[int] = []
        self._timers: dict[int, threading.Timer] = {}
        self._delivering = 0
        self.faults: FaultBook[CallFault] = FaultBook()

    def records(self) -> list[CallRecord]:
        """Every call so far, oldest first."""
        with self._lock:
            return list(self._records)

    def set_fault(self, fault: CallFault) -> None:
        """Put a fault in force."""
        with self._lock:
            self.faults.add(fault)

    def clear_faults(self) -> None:
        """Send calls unchanged again. A call that was already delayed still comes late."""
        with self._lock:
            self.faults.clear()

    def impossible(self, action: Action, order_id: int, why: str) -> CallRecord:
        """Record a call that could not be made because the site knows no id to send."""
        return self._note(action, order_id, {}, CallOutcome.IMPOSSIBLE, why)

    def send(self, action: Action, order_id: int, vps: dict[str, Any]) -> CallRecord:
        """Make the call, subject to the faults in force. Returns its record afterwards."""
        body = {"action": action, "vps": vps}
        with self._lock:
            taken = {fault.kind: fault for fault in self.faults.take(lambda f: f.action in (None, action))}
        record = self._note(action, order_id, body, CallOutcome.WAITING)
        if CallFaultKind.DROP in taken:
            return self._amend(record.seq, {"outcome": CallOutcome.DROPPED})
        if CallFaultKind.REORDER in taken:
            with self._lock:
                self._held.append(record.seq)
            return record
        if CallFaultKind.DELAY in taken:
            self._send_later(record.seq, taken[CallFaultKind.DELAY].delay_s)
            return record
        lose = CallFaultKind.LOSE_ANSWER in taken
        for _ in range(2 if CallFaultKind.DUPLICATE in taken else 1):
            self._deliver(record.seq, lose_answer=lose)
        self._release_held()
        return self._record(record.seq)

    def drain(self, timeout_s: float) -> bool:
        """Send calls that reordering holds back, wait for delayed ones. Returns whether all were sent in time."""
        self._release_held()
        with self._idle:
            return self._idle.wait_for(lambda: not self._timers and not self._delivering, timeout_s)

    def close(self) -> None:
        """Drop the calls that were not sent yet, and close the connections."""
        with self._lock:
            timers, self._timers = list(self._timers.values()), {}
            self._held.clear()
        for timer in timers:
            timer.cancel()
            timer.join(CALL_TIMEOUT_S)
        self._client.close()

    def _record(self, seq: int) -> CallRecord:
        with self._lock:
            return self._records[seq - 1]

    def _note(
        self,
        action: Action,
        order_id: int,
        body: dict[str, Any],
        outcome: CallOutcome,
        why: str | None = None,
    ) -> CallRecord:
        with self._lock:
            record = CallRecord(
                seq=len(self._records) + 1,
                action=action,
                order_id=order_id,
                body=body,
                outcome=outcome,
                message=why,
            )
            self._records.append(record)
            return record

    def _amend(self, seq: int, changes: Mapping[str, Any]) -> CallRecord:
        with self._lock:
            self._records[seq - 1] = changed = replace(self._records[seq - 1], **changes)
            return changed

    def _send_later(self, seq: int, delay_s: float) -> None:
        timer = threading.Timer(delay_s, self._deliver_delayed, args=(seq,))
        timer.daemon = True
        with self._lock:
            self._timers[seq] = timer
        timer.start()

    def _deliver_delayed(self, seq: int) -> None:
        try:
            self._deliver(seq, lose_answer=False)
        finally:
            with self._idle:
                self._timers.pop(seq, None)
                self._idle.notify_all()

    def _release_held(self) -> None:
        with self._lock:
            held, self._held = self._held, []
        for seq in held:
            self._deliver(seq, lose_answer=False)

    def _deliver(self, seq: int, *, lose_answer: bool) -> None:
        record = self._record(seq)
        with self._lock:
            self._delivering += 1
        try:
            self._amend(seq, {"deliveries": record.deliveries + 1} | self._post(record, lose_answer=lose_answer))
        finally:
            with self._idle:
                self._delivering -= 1
                self._idle.notify_all()

    def _post(self, record: CallRecord, *, lose_answer: bool) -> dict[str, Any]:
        try:
            response = self._client.post(SYNC_PATH, json=record.body)
        except httpx.HTTPError as error:
            return {"outcome": CallOutcome.UNREACHABLE, "message": type(error).__name__}
        if lose_answer:
            return {"outcome": CallOutcome.ANSWER_LOST}
        answer = _json_object(response)
        message = answer.get("message")
        if not response.is_success:
            return {"outcome": CallOutcome.REFUSED, "status": response.status_code, "message": message}
        vps_id, operation_id = _id_of(answer.get("vps")), _id_of(answer.get("operation"))
        if vps_id is not None:
            self._on_answer(record.action, record.order_id, vps_id)
        return {
            "outcome": CallOutcome.ANSWERED,
            "status": response.status_code,
            "message": message,
            "vps_id": vps_id,
            "operation_id": operation_id,
        }


def _id_of(item: object) -> int | None:
    id_ = item.get("id") if isinstance(item, dict) else None
    return id_ if isinstance(id_, int) else None


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
