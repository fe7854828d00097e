"""How the site's customers get to the panel's pages: ``/`` lists them, ``/sign-in/{username}`` leads one there.

On a real main site the customer has signed in before. Here whoever opens the page chooses who to be.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from lab.simulators.main_site.model import SiteUser
from lab.simulators.main_site.site import MainSite

STYLE = (
    "body{font:1rem/1.6 system-ui,sans-serif;margin:3rem auto;max-width:36rem;padding:0 1rem;color-scheme:light dark}"
)


@dataclass(frozen=True, slots=True)
class PanelPages:
    """The panel's pages. ``url``: where browsers reach the panel. ``secret``: its SIGN_IN_SECRET."""

    url: str
    secret: str = field(repr=False)


def signed_link(pages: PanelPages, user: SiteUser, now: datetime) -> str:
    """The link that signs this customer in to the panel: once, within 5 minutes.

    ValueError: the user has no id of the panel. The site's own id would name a stranger there.
    """
    if user.panel_user_id is None:
        raise ValueError(f"{user.username} has no id of the panel")
    values = (str(user.panel_user_id), user.username, user.email, str(int(now.timestamp())))
    signature = hmac.new(pages.secret.encode(), "\n".join(values).encode(), hashlib.sha256).hexdigest()
    names = ("user_id", "username", "email", "time", "signature")
    return f"{pages.url}/sign-in?{urlencode(dict(zip(names, (*values, signature), strict=True)))}"


def sign_in_routes(site: MainSite, pages: PanelPages) -> APIRouter:
    """The two pages."""
    routes = APIRouter()

    @routes.get("/")
    def customers() -> HTMLResponse:
        return HTMLResponse(_page(site.list_users()))

    @routes.get("/sign-in/{username}")
    def to_the_panel(username: str) -> Response:
        found = next((user for user in site.list_users() if user.username == username), None)
        if found is None or found.panel_user_id is None:
            return HTMLResponse(_page(site.list_users(), f"The panel knows no customer {username} of this site."), 404)
        return RedirectResponse(signed_link(pages, found, site.now()), 303)

    return routes


def _page(users: Sequence[SiteUser], notice: str = "") -> str:
    links = "".join(
        f'<li><a href="/sign-in/{quote(user.username, safe="")}">Open the panel as {escape(user.username)}</a></li>'
        for user in users
        if user.panel_user_id is not None
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Main site (simulated)</title>'
        f"<style>{STYLE}</style><h1>Main site (simulated)</h1><p>{escape(notice)}</p>"
        "<p>This page stands for the hoster's own site. It signs a link and sends the customer to the panel.</p>"
        f"<ul>{links or '<li>No customer yet.</li>'}</ul></html>"
    )
