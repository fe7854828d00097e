"""The hoster's main site: users, orders, sync calls to the panel, and both feeds that the panel reads."""

from simulators.main_site.calls import CallOutcome, CallRecord
from simulators.main_site.faults import CallFaultKind, FeedFaultKind
from simulators.main_site.guests import GuestHost, GuestPlace
from simulators.main_site.model import Order, SiteUser
from simulators.main_site.rows import ROOT_PASSWORD_CANARY
from simulators.main_site.server import MainSiteServer
from simulators.main_site.verbs import MainSiteVerbs

__all__ = [
    "ROOT_PASSWORD_CANARY",
    "CallFaultKind",
    "CallOutcome",
    "CallRecord",
    "FeedFaultKind",
    "GuestHost",
    "GuestPlace",
    "MainSiteServer",
    "MainSiteVerbs",
    "Order",
    "SiteUser",
]
