"""A main site inside this process, for tests."""

import secrets
from types import TracebackType
from typing import Self, TypeVar

from pydantic import TypeAdapter

from lab.simulators.background import BackgroundServer
from lab.simulators.main_site.app import create_app
from lab.simulators.main_site.guests import GuestHost
from lab.simulators.main_site.site import MainSite
from lab.simulators.main_site.verbs import MainSiteVerbs, Shape

T = TypeVar("T")


class MainSiteServer(MainSiteVerbs):
    """Context manager: a main site on a free port of the loopback, with all verbs.

    `api_key` is the key that the panel must send to the feeds; without it a random key is made. `control_key` is the
    key of the control API. `panel_url` and `sync_key` name the panel to call; without them no calls are made.
    """

    def __init__(
        self,
        *,
        panel_url: str | None = None,
        sync_key: str | None = None,
        api_key: str | None = None,
        guests: GuestHost | None = None,
        extended: bool = False,
        shape: Shape = "flat",
        first_order_id: int = 1,
        port: int = 0,
    ) -> None:
        self.api_key = api_key or secrets.token_urlsafe(32)
        self.control_key = secrets.token_urlsafe(32)
        self.site = MainSite(
            panel_url=panel_url,
            sync_key=sync_key,
            guests=guests,
            extended=extended,
            shape=shape,
            first_order_id=first_order_id,
        )
        app = create_app(self.site, api_key=self.api_key, control_key=self.control_key)
        self._server = BackgroundServer(app, port=port)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`, the value for MAIN_SITE_URL. The feeds are below its /api/panel."""
        return self._server.url

    def start(self) -> None:
        """Start the server. Return when it answers."""
        self._server.start()

    def stop(self) -> None:
        """Stop the server, and drop the calls that were not sent yet."""
        self._server.stop()
        self.site.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _do(self, verb: str, _answer: TypeAdapter[T], /, **arguments: object) -> T:
        done: T = getattr(self.site, verb)(**arguments)
        return done
