"""Verbs: one typed list of what can be done to a simulator, carried out in this process or over HTTP.

A subclass lists the verbs (`MainSiteVerbs`, `ProxmoxVerbs`). The server in this process and the control client
inherit that list. They differ only in `_do`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from inspect import getmembers, isfunction
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError, validate_call
from pydantic_core import to_jsonable_python

CONTROL_PREFIX = "/_sim"
CONTROL_HEADER = "X-Sim-Key"

NOTHING: TypeAdapter[None] = TypeAdapter(None)
T = TypeVar("T")


class Verbs(ABC):
    """Base of the verb lists: public methods are verbs, `_do` carries one out."""

    @abstractmethod
    def _do(self, verb: str, answer: TypeAdapter[T], /, **arguments: object) -> T:
        """Carry out the verb. `answer` is the type of what it returns."""


class VerbRefusedError(Exception):
    """A verb does not exist, has wrong arguments, or failed. `status` is the HTTP status for that."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def verb_names(verbs: type[object]) -> frozenset[str]:
    """The names of the verbs that the class lists."""
    return frozenset(name for name, _ in getmembers(verbs, isfunction) if name[0] != "_")


def carry_out(target: object, verbs: frozenset[str], verb: str, arguments: Mapping[str, object]) -> object:
    """Check the arguments against the verb's annotations and call it on `target`. Returns an answer ready for JSON.

    Raises:
        VerbRefusedError: 404 for an unknown verb, 422 for wrong arguments, 409 when the target refuses.
    """
    if verb not in verbs:
        raise VerbRefusedError(404, f"There is no verb {verb}")
    try:
        done = validate_call(getattr(target, verb))(**arguments)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise VerbRefusedError(422, faults) from error
    except (LookupError, ValueError) as error:
        raise VerbRefusedError(409, str(error.args[0]) if error.args else type(error).__name__) from error
    answer: object = to_jsonable_python(done)
    return answer
