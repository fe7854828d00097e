"""Which user ``u`` of the panel is the customer of order ``o``, in SQL, by the rule of the map that runs make of users.

An index of ``users`` finds either. "007" is nobody: a user id is written in one way only.
"""

from __future__ import annotations

IS_OWNER = {
    False: "u.main_site_user_id = o.owner",
    True: "u.id = CASE WHEN o.owner ~ '^[1-9][0-9]{0,17}$' THEN CAST(o.owner AS bigint) END",
}
"""By whether the main site's user ids are also the panel's."""
