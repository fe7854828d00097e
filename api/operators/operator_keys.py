"""Tells which operator a key belongs to, and the role of that operator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from api.main_site.api_keys import ApiKeys, Headers
from panel.operators.audit import Role
from panel.settings import OperatorKey

PREVIOUS = "/previous"


@dataclass(frozen=True, slots=True)
class CallingOperator:
    """The operator who calls. ``label`` tells the two keys of a rotation apart ("ann", "ann/previous"); ``name`` is the
    same for both."""

    label: str
    name: str
    role: Role


class OperatorKeys:
    """The operators' keys. An operator has two during a rotation. Without any key every request is refused."""

    def __init__(self, operators: Iterable[OperatorKey]) -> None:
        by_name = {operator.name: operator for operator in operators}
        self._roles = {name: operator.role for name, operator in by_name.items()}
        current = {name: operator.key for name, operator in by_name.items()}
        previous = {name + PREVIOUS: operator.previous for name, operator in by_name.items()}
        self._keys = ApiKeys(current | previous)

    def operator_of(self, headers: Headers) -> CallingOperator | None:
        """The operator whose key is in the raw headers; None if they hold no key, a wrong one or several."""
        label = self._keys.label_of(headers)
        return None if label is None else self._called(label)

    def holders_of(self, token: str) -> dict[str, CallingOperator]:
        """Who may own the session with this token: an operator for each configured key, by the session's hash. A
        session that began with a key has no hash here any more once that key is not configured."""
        return {hash_: self._called(label) for hash_, label in self._keys.bound_to(token).items()}

    def _called(self, label: str) -> CallingOperator:
        name = label.removesuffix(PREVIOUS)
        return CallingOperator(label, name, self._roles[name])
