"""What an API token may do: its own grants cut down to its user's, as privilege separation has it. Pure."""

from collections.abc import Collection, Mapping

Rights = Mapping[str, Collection[str]]

# The role that the panel asks for.
PANEL_RIGHTS: Rights = {
    "/": ("Sys.Audit",),
    "/vms": ("VM.Audit", "VM.PowerMgmt", "VM.GuestAgent.Audit", "VM.Config.Options"),
}


def held_at(rights: Rights, path: str) -> frozenset[str]:
    """Privileges at a path: granted there or on any path above it."""
    return frozenset(
        privilege
        for granted, privileges in rights.items()
        if granted in ("/", path) or path.startswith(f"{granted}/")
        for privilege in privileges
    )


def effective(token: Rights, user: Rights | None) -> dict[str, frozenset[str]]:
    """Rights held by both the token and its user (None: a user who may do everything), by path."""
    if user is None:
        return {path: frozenset(privileges) for path, privileges in token.items()}
    return {path: held_at(token, path) & held_at(user, path) for path in sorted({*token, *user})}
