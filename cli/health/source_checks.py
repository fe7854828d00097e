"""Doctor's checks of the main site and of Proxmox: answers, rights, known users and clocks."""

from __future__ import annotations

import contextlib

from sqlalchemy import select

from cli.connect import opened_panel
from cli.health.checks import Check, Verdict, clock_check
from domain.source_protocols import Health, OrderFeed
from panel.records.told import span
from panel.runs.source_states import list_sources, users_imported
from panel.schema import tables
from panel.settings import ProxmoxCluster, Settings
from sources.proxmox.cluster import POWER_PRIVILEGE, ClusterSource
from worker.wiring import cluster_config, feed_of

GRANT_POWER = (
    "pveum role add PanelPower --privs VM.PowerMgmt; pveum acl modify /vms --tokens '<token id>' --roles PanelPower;"
    " the token's user needs it, too"
)


def health_checks(subject: str, health: Health) -> list[Check]:
    """A source's own report as checks. The text of a problem names its remedy."""
    checks = [Check(subject, Verdict.PROBLEM, problem) for problem in health.problems]
    if not checks:
        verdict = Verdict.OK if health.ok else Verdict.PROBLEM
        checks.append(Check(subject, verdict, health.detail))
    if health.clock_skew_s is not None:
        checks.append(clock_check(subject, health.clock_skew_s))
    return checks


def check_main_site(settings: Settings) -> list[Check]:
    """The configured feed's health, then how many of its users are known here."""
    feed = feed_of(settings)
    if feed is None:
        return []
    health = feed.health()
    checks = health_checks("main site", health)
    return [*checks, *_users(feed, settings)] if health.ok else checks


def check_cluster(cluster: ProxmoxCluster, *, power: bool = False) -> list[Check]:
    """One cluster's health: version, token rights, quorum, nodes, clock. ``power``: power actions are switched on, so
    the token must have the right to them."""
    # Without the stored wait after a refused token: doctor must see whether the token was repaired.
    with contextlib.closing(ClusterSource(cluster_config(cluster))) as source:
        subject, health = f"Proxmox {source.cluster}", source.health()
        checks = health_checks(subject, health)
        if power and health.power_right is False:
            seen = (
                f"POWER_ACTIONS is on, but the token lacks {POWER_PRIVILEGE} on /vms, so every action will be refused"
            )
            checks.append(Check(subject, Verdict.PROBLEM, seen, GRANT_POWER))
        return checks


def check_believed(settings: Settings) -> list[Check]:
    """Whether the runs believe each source. A source may answer now and still not be believed."""
    with opened_panel(settings.session_url) as engine, engine.connect() as connection:
        sources = list_sources(connection)
    checks = []
    for source in sources:
        if source.cause is None or source.paused_until is not None:
            continue
        alarm = Verdict.PROBLEM if source.severity == "alarm" else Verdict.WARNING
        seen = f"{source.source}: for {span(source.age_s or 0.0)}: {source.reason}"
        checks.append(Check("sources", alarm if source.alarm else Verdict.NOTE, seen, source.remedy or ""))
    return checks or [
        Check("sources", Verdict.OK, "runs believe what they read" if sources else "no run has read a source yet")
    ]


def match_check(space: str, listed: int, matched: int, *, imported: bool = True) -> Check:
    """Judge how many of the feed's users are known here. ``space``: USER_ID_SPACE. ``imported``: whether the feed's
    users were imported at least once. Before that, the rate means nothing."""
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
        return [Check("users", Verdict.NOTE, "not compared: without a database no user is known", "set DATABASE_URL")]
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
