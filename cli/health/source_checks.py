"""Doctor's checks of the main site and of Proxmox: usable, complete, users known, clocks."""

from __future__ import annotations

from sqlalchemy import select

from cli.connect import opened_panel
from cli.health.checks import Check, Verdict, clock_check
from cli.output.console import span
from domain.source_protocols import GuestSource, Health, OrderFeed
from panel.runs.source_states import list_sources, users_imported
from panel.schema import tables
from panel.settings import Settings


def health_checks(subject: str, health: Health) -> list[Check]:
    """A source's own report as checks. Its problems carry their remedies."""
    found = [Check(subject, Verdict.PROBLEM, problem) for problem in health.problems]
    if not found:
        verdict = Verdict.OK if health.ok else Verdict.PROBLEM
        found.append(Check(subject, verdict, health.detail))
    if health.clock_skew_s is not None:
        found.append(clock_check(subject, health.clock_skew_s))
    return found


def check_main_site(feed: OrderFeed, settings: Settings) -> list[Check]:
    """The feed's health, then how many of its users are known here."""
    health = feed.health()
    found = health_checks("main site", health)
    return [*found, *_users(feed, settings)] if health.ok else found


def check_cluster(source: GuestSource) -> list[Check]:
    """One cluster's health: version, token rights, quorum, nodes, clock."""
    return health_checks(f"Proxmox {source.cluster}", source.health())


def check_standing(settings: Settings) -> list[Check]:
    """What the runs say of each source. A source may answer now and still not be believed."""
    with opened_panel(settings.session_url) as engine, engine.connect() as connection:
        found = list_sources(connection)
    checks = []
    for one in found:
        if one.cause is None or one.paused_until is not None:
            continue
        verdict = Verdict.NOTE if not one.alarm else Verdict.PROBLEM if one.severity == "alarm" else Verdict.WARNING
        seen = f"{one.source}: for {span(one.age_s or 0.0)}: {one.reason}"
        checks.append(Check("sources", verdict, seen, one.remedy or ""))
    return checks or [
        Check("sources", Verdict.OK, "runs believe what they read" if found else "no run has read any yet")
    ]


def match_check(space: str, listed: int, matched: int, *, imported: bool = True) -> Check:
    """Judge how many of the feed's users are known here. ``space``: USER_ID_SPACE. ``imported``: the feed's users were
    imported at least once; before that the rate says nothing."""
    share = f"{matched} of {listed} users of the feed are known here"
    seen = f"{share} ({100 * matched / listed:.0f} %)" if listed else "the feed lists no users"
    if listed == 0:
        return Check("users", Verdict.NOTE, seen)
    if matched == listed:
        return Check("users", Verdict.OK, seen)
    if not imported:
        return Check(
            "users",
            Verdict.WARNING,
            f"{seen}; they were not imported yet",
            "the first run imports them; now: panel-sync users import",
        )
    if matched == 0:
        mend = (
            "map them: panel-sync users unmapped, users map --csv FILE; USER_ID_SPACE=shared only if one database "
            "assigns the ids of both"
            if space == "mapped"
            else "USER_ID_SPACE=shared is likely wrong: the ids of the feed are not the panel's"
        )
        return Check("users", Verdict.PROBLEM, seen, mend)
    return Check("users", Verdict.WARNING, seen, "orders of unknown users are held; see: panel-sync users unmapped")


def _users(feed: OrderFeed, settings: Settings) -> list[Check]:
    if not settings.database_url:
        return [Check("users", Verdict.NOTE, "not compared: there is no database to know them", "set DATABASE_URL")]
    users = tables.users
    with opened_panel(settings.session_url) as engine, engine.connect() as connection:
        if settings.user_id_space == "shared":
            known = {str(row.id) for row in connection.execute(select(users.c.id))}
        else:
            mapped = select(users.c.main_site_user_id).where(users.c.main_site_user_id.is_not(None))
            known = {row.main_site_user_id for row in connection.execute(mapped)}
        imported = users_imported(connection)
    sweep = feed.users()
    listed = {user.main_site_user_id for page in sweep.pages for user in page.items}
    if sweep.problem is not None:
        return [Check("users", Verdict.PROBLEM, f"the feed's users can't be read: {sweep.problem}")]
    return [match_check(settings.user_id_space, len(listed), len(listed & known), imported=imported)]
