"""What every action of an operator has: a name, a required role, its rows in the audit, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, Generic, ParamSpec, TypeVar

from sqlalchemy import Connection

from panel.operator_error import OperatorError
from panel.operators.audit import Actor, Role, note_actions

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """What an action did.

    ``subjects``: the objects that it was about ("vps:17", "proxmox:fra1"); each gets a row in the audit. ``message``:
    the sentence that answers the operator. ``result``: the object as it is now, or None if the sentence says all.
    """

    subjects: tuple[str, ...]
    message: str
    result: T_co


@dataclass(frozen=True, slots=True)
class Action(Generic[P, T]):
    """One action. ``name``: its command after ``panel-sync``, and its name in the audit. ``path``: its POST route below
    ``/api/ops``; None if there is only the command. ``later``: the answer comes before the workers do it (HTTP 202).
    ``work``: does it, without the audit."""

    name: str
    path: str | None
    role: Role
    later: bool
    work: Callable[Concatenate[Connection, Actor, P], Done[T]]

    def __call__(self, connection: Connection, actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> Done[T]:
        """Do the action and note it in the audit, both in the caller's transaction. Raises OperatorError."""
        if not self.open_to(actor.role):
            raise OperatorError("forbidden", f"This needs the role {self.role}")
        done = self.work(connection, actor, *args, **kwargs)
        note_actions(connection, actor, self.name, done.subjects)
        return done

    def open_to(self, role: Role) -> bool:
        """Whether an operator with this role may do it."""
        return role in (self.role, "operate")

    @property
    def explained(self) -> str:
        """What it does, as its function says."""
        return self.work.__doc__ or ""


def action(
    name: str, path: str | None = None, *, role: Role = "operate", later: bool = False
) -> Callable[[Callable[Concatenate[Connection, Actor, P], Done[T]]], Action[P, T]]:
    """Decorates the function that does the work, and makes an action of it."""

    def make_action(work: Callable[Concatenate[Connection, Actor, P], Done[T]]) -> Action[P, T]:
        return Action(name, path, role, later, work)

    return make_action
