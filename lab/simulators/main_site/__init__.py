"""The hoster's main site: users, orders, sync calls to the panel, and the two feeds that the panel reads."""

from lab.simulators.main_site.calls import CallOutcome, CallRecord
from lab.simulators.main_site.faults import CallFaultKind, FeedFaultKind
from lab.simulators.main_site.guests import GuestHost, GuestPlace
from lab.simulators.main_site.model import Order, SiteUser
from lab.simulators.main_site.rows import ROOT_PASSWORD_CANARY
from lab.simulators.main_site.server import MainSiteServer
from lab.simulators.main_site.verbs import MainSiteVerbs

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
