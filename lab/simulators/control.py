"""Clients of the control APIs: the verbs of simulators that run in another process."""

import ssl
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from lab.simulators.main_site.verbs import MainSiteVerbs
from lab.simulators.proxmox.verbs import ProxmoxVerbs
from lab.simulators.verbs import CONTROL_HEADER, CONTROL_PREFIX

# Long, because a verb may make the site call a slow panel, or wait for delayed calls.
VERB_TIMEOUT_S = 60.0
T = TypeVar("T")


class ControlError(Exception):
    """The simulator refused the verb or did not answer. `status`: its HTTP status, None without an answer."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class _Channel:
    """Posts verbs to one simulator and reads its answers."""

    def __init__(self, url: str, control_key: str, *, ca_file: Path | None = None) -> None:
        # If the simulator has an authority of its own, no other authority is trusted.
        verify = ssl.create_default_context(cafile=ca_file) if ca_file else ssl.create_default_context()
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}{CONTROL_PREFIX}",
            headers={CONTROL_HEADER: control_key},
            timeout=VERB_TIMEOUT_S,
            verify=verify,
            trust_env=False,
            # A connection that is kept may be closed by the simulator just when the next verb is sent.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def is_ready(self) -> bool:
        """Whether the simulator answers."""
        try:
            return self._client.get("/health").is_success
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, verb: str, answer: TypeAdapter[T], /, **arguments: object) -> T:
        try:
            response = self._client.post(f"/{verb}", json=to_jsonable_python(arguments))
        except httpx.HTTPError as error:
            raise ControlError(f"{verb}: {type(error).__name__}", None) from error
        reply = response.json()
        if not response.is_success:
            raise ControlError(f"{verb}: {reply['message']}", response.status_code)
        return answer.validate_python(reply["data"])


class MainSiteControl(_Channel, MainSiteVerbs):
    """A main site simulator in another process.

    Every verb raises ControlError when the simulator refuses it or does not answer.
    """


class ProxmoxControl(_Channel, ProxmoxVerbs):
    """A Proxmox simulator in another process; `ca_file` is the CA that it wrote when it started.

    Every verb raises ControlError when the simulator refuses it or does not answer.
    """
