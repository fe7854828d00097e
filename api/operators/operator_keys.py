"""Which operator calls, and what their key allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from api.main_site.api_keys import ApiKeys, Headers
from panel.operators.audit import Role
from panel.settings import OperatorKey

PREVIOUS = "/previous"


@dataclass(frozen=True, slots=True)
class CallingOperator:
    """``label`` tells the keys of a rotation apart ("ann", "ann/previous"); ``name`` is the same for both."""

    label: str
    name: str
    role: Role


class OperatorKeys:
    """The operators' keys, two of one operator during a rotation. Without any nobody gets in."""

    def __init__(self, operators: Iterable[OperatorKey]) -> None:
        named = {one.name: one for one in operators}
        self._roles = {name: one.role for name, one in named.items()}
        current = {name: one.key for name, one in named.items()}
        self._keys = ApiKeys(current | {name + PREVIOUS: one.previous for name, one in named.items()})

    def operator_of(self, headers: Headers) -> CallingOperator | None:
        """Whose key the raw headers carry; None for none, a wrong one or several."""
        label = self._keys.label_of(headers)
        if label is None:
            return None
        name = label.removesuffix(PREVIOUS)
        return CallingOperator(label, name, self._roles[name])
