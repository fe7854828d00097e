"""The spans that this very process sends, without any server."""

from __future__ import annotations

import pytest

from tests.support.stand_ins.trace_collector import SentSpan, spans_in
from tests.support.waiting import PATIENCE_S
from tracing import recorder
from tracing.spans import switch_off


class Collected:
    """What the process sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.problem: str | None = None

    def send(self, body: bytes) -> str | None:
        if self.problem is None:
            self.bodies.append(body)
        return self.problem

    def every(self) -> list[SentSpan]:
        """Once everything was sent, however long a busy machine takes for that."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recorder, "END_WITHIN_S", PATIENCE_S)
            switch_off()
        return [one for body in self.bodies for one in spans_in(body)]

    def spans(self) -> dict[str, SentSpan]:
        """The same by name."""
        return {one.name: one for one in self.every()}
