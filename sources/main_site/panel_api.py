"""The ``panel-api`` feed: an interface that the main site already has, read user by user.

It has two documented shapes: a flat list of servers, and servers nested under their user.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from operator import attrgetter

from domain.orders import Order
from domain.source_protocols import Health, Lookup, Page, Sweep, User
from sources.clock import Clock, Pacer
from sources.config import MainSiteConfig
from sources.json_client import Answer, segment
from sources.main_site.client import MainSiteClient, health_of, look_up
from sources.main_site.paging import Listing, envelope_of, read_listing
from sources.main_site.parse import RowRefused, panel_api_row, user_row
from sources.outgoing.client import Transport
from sources.outgoing.faults import Malformed, SourceFault

USERS_ONLY = "users"
"""The scope of a page that shows no orders, only that the list of users goes on. It is never complete."""


class PanelApiFeed:
    """``/users`` and ``/users/{id}/vps``, paced.

    It has no ``as_of``: an answer counts as old as its request. A whole read takes one request per user. A delta read
    takes the suspects and the next ``rolling_users`` of the others, in id order. Each read goes on where the last one
    stopped, a whole one, too: one that is cut short every time still reads every user. The feed stores no position: the
    caller passes it, so that restarts and several workers skip no user.
    """

    def __init__(
        self,
        config: MainSiteConfig,
        clock: Clock | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._config = config
        self._client = MainSiteClient(config, self._clock, transport)
        self._pacer = Pacer(config.requests_per_s, self._clock)

    @property
    def name(self) -> str:
        return "panel-api"

    @property
    def names_are_authoritative(self) -> bool:
        return False

    def users(self) -> Sweep[User]:
        """All users."""
        return read_listing(
            Listing(
                noun="users",
                get=self._get_users,
                parse=user_row,
                identify=attrgetter("main_site_user_id"),
                params={},
                pinned=False,
                whole=True,
                max_pages=self._config.max_pages,
                ascending=False,
            ),
            self._clock,
        )

    def orders(
        self, updated_since: str | None = None, suspects: tuple[str, ...] = (), rolled_to: str | None = None
    ) -> Sweep[Order]:
        """All users' orders, suspects by turns with the users that follow ``rolled_to``. With ``updated_since``: only
        ``rolling_users`` of the others."""
        sweep: Sweep[Order] = Sweep(pages=iter(()))
        sweep.pages = self._pages(sweep, suspects, rolled_to, whole=updated_since is None)
        return sweep

    def order(self, order_id: str, control_id: str | None) -> Lookup[Order]:
        """One order, now. Only the flat shape names its owner."""
        return look_up(self._get, order_id, control_id)

    def health(self) -> Health:
        """The interface's own health page, then the user list: reachability, key, shape and clock."""

        def probe() -> float | None:
            self._client.get("/health")
            answer = self._get_users({})
            envelope_of(answer.document)
            return answer.skew_s

        return health_of("panel-api", probe)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _pages(
        self, sweep: Sweep[Order], suspects: tuple[str, ...], rolled_to: str | None, *, whole: bool
    ) -> Iterator[Page[Order]]:
        started = self._clock.monotonic()
        listed = self.users()
        users: list[str] = []
        for page in listed.pages:
            if users:  # a caller whose time is over must get its turn before the next page of users is asked for
                yield Page((), began_s=page.began_s, staleness_s=0.0, scope=USERS_ONLY)
            users += [user.main_site_user_id for user in page.items]
        sweep.problem = listed.problem
        seen: set[str] = set()
        failed = 0
        known = set(users)
        first = [user for user in dict.fromkeys(suspects) if user in known]
        for user, position in in_turns(first, self._roll(users, first, rolled_to, whole=whole), rolled_to):
            sweep.rolled_to = position  # also after a failed read: one user must not keep the others waiting
            asked = self._clock.monotonic() - started
            try:
                answer = self._get_page(f"/users/{segment(user)}/vps")
                rows = servers_of(answer.document, user)
            except SourceFault as fault:
                failed += 1
                sweep.problem = sweep.problem or f"orders of user {user}: {fault}"
                yield Page((), began_s=asked, staleness_s=0.0, scope=f"user:{user}")  # the failure took time, too
                continue
            items, spoiled, refused = self._items(rows, user, seen)
            sweep.refused += refused
            failed += spoiled is not None
            sweep.problem = sweep.problem or spoiled
            sweep.count += len(items)
            if spoiled is None:
                sweep.complete_scopes.add(f"user:{user}")
            yield Page(items, began_s=answer.began - started, staleness_s=0.0, scope=f"user:{user}")
        if failed > 1:
            sweep.problem = f"{sweep.problem} (and {failed - 1} more user(s) with a fault)"
        if whole and listed.complete and failed == 0:
            sweep.complete_scopes.add("all")

    def _roll(self, users: list[str], suspects: list[str], rolled_to: str | None, *, whole: bool) -> list[str]:
        """The users of the next read: those after the one where the last read stopped, then from the beginning. A delta
        read ends with the last of ``rolling_users`` who are no suspects."""
        users = sorted(set(users))
        start = 0 if rolled_to is None else bisect_right(users, rolled_to)
        users = users[start:] + users[:start]
        in_question = set(suspects)
        others = [place for place, user in enumerate(users, 1) if user not in in_question]
        if whole or len(others) <= self._config.rolling_users:
            return users
        return users[: others[self._config.rolling_users - 1]]

    def _items(self, rows: list[object], user: str, seen: set[str]) -> tuple[tuple[Order, ...], str | None, int]:
        """The readable rows, with ``user`` as owner; what is wrong with the first unreadable one; how many could not be
        read."""
        items: list[Order] = []
        spoiled: str | None = None
        unreadable = 0
        for number, row in enumerate(rows, 1):
            try:
                order = panel_api_row(row, self._config.panel_api_cluster)
            except RowRefused as refused:
                unreadable += 1
                spoiled = spoiled or f"orders of user {user}: row {number} could not be read ({refused})"
                continue
            if order.owner not in (None, user):
                spoiled = spoiled or f"orders of user {user}: order {order.order_id} names another owner"
                continue
            if order.order_id in seen:
                spoiled = spoiled or f"orders of user {user}: order {order.order_id} was already listed"
                continue
            seen.add(order.order_id)
            items.append(replace(order, owner=user))
        return tuple(items), spoiled, unreadable

    def _get(self, order_id: str) -> Order | None:
        self._pacer.wait()
        answer = self._client.find(f"/vps/{segment(order_id)}")
        if answer is None:
            return None
        return panel_api_row(server_of(answer.document), self._config.panel_api_cluster)

    def _get_users(self, params: dict[str, str]) -> Answer:
        return self._get_page("/users", params)

    def _get_page(self, path: str, params: dict[str, str] | None = None) -> Answer:
        self._pacer.wait()
        return self._client.get(path, params)


def in_turns(suspects: list[str], roll: list[str], rolled_to: str | None) -> Iterator[tuple[str, str | None]]:
    """(user to read, the user to whom the roll has come by then): a suspect and the next of the roll by turns, nobody
    twice. However many suspects there are, a read that is cut short has moved the roll on."""
    read = set[str]()
    for suspect, user in zip_longest(suspects, roll):
        if suspect is not None and suspect not in read:
            read.add(suspect)
            yield suspect, rolled_to
        if user is not None:
            rolled_to = user
            if user not in read:
                read.add(user)
                yield user, rolled_to


def servers_of(document: object, user: str) -> list[object]:
    """The raw rows of ``/users/{user}/vps`` in either shape; raises ``Malformed``."""
    data = _data(document)
    if isinstance(data, list):
        _check_count(document, data)
        return data
    if not isinstance(data, dict) or not isinstance(data.get("servers"), list):
        raise Malformed("answered 200 with neither a list nor servers")
    servers: list[object] = data["servers"]
    _check_count(data, servers)
    owner = data.get("user")
    named = owner.get("id") if isinstance(owner, dict) else None
    if named is not None and str(named) != user:
        raise Malformed("answered with another user's servers")
    return servers


def server_of(document: object) -> object:
    """The raw row of ``/vps/{id}``, alone or under ``server``; raises ``Malformed``."""
    data = _data(document)
    if isinstance(data, dict) and isinstance(data.get("server"), dict):
        return data["server"]
    if not isinstance(data, dict):
        raise Malformed("answered 200 without a server")
    return data


def _data(document: object) -> object:
    if not isinstance(document, dict):
        raise Malformed("answered 200 with no object")
    if document.get("status", "success") != "success":
        raise Malformed("answered 200 without saying success")
    if document.get("next_cursor") is not None:
        raise Malformed("answered with a part of the list")
    return document.get("data")


def _check_count(holder: object, rows: list[object]) -> None:
    for word in ("count", "total"):
        count = holder.get(word) if isinstance(holder, dict) else None
        if count is not None and count != len(rows):
            raise Malformed(f"its {word} differs from the {len(rows)} server(s) that it lists")
