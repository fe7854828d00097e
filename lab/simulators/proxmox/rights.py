"""The rights of an API token. With privilege separation it has only rights that its user has too. Pure."""

from collections.abc import Collection, Mapping

Rights = Mapping[str, Collection[str]]

# The role that the panel asks for.
PANEL_RIGHTS: Rights = {
    "/": ("Sys.Audit",),
    "/vms": ("VM.Audit", "VM.PowerMgmt", "VM.GuestAgent.Audit", "VM.Config.Options"),
}


def held_at(rights: Rights, path: str) -> frozenset[str]:
    """The privileges at a path: those granted there and on any path above it."""
    return frozenset(
        privilege
        for granted, privileges in rights.items()
        if granted in ("/", path) or path.startswith(f"{granted}/")
        for privilege in privileges
    )


def effective(token: Rights, user: Rights | None) -> dict[str, frozenset[str]]:
    """The rights that both the token and its user have, by path. `user` None: the user may do everything."""
    if user is None:
        return {path: frozenset(privileges) for path, privileges in token.items()}
    return {path: held_at(token, path) & held_at(user, path) for path in sorted({*token, *user})}
