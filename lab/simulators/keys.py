"""Keys of the simulators: taken from the environment, compared in constant time."""

import hmac
from collections.abc import Mapping

MIN_KEY_LENGTH = 16


class MissingSettingError(ValueError):
    """An environment variable is absent or unusable; the text names it."""


def same_key(offered: str | None, expected: str) -> bool:
    """Whether the offered key is the expected one. The comparison takes the same time wherever the keys differ."""
    return hmac.compare_digest((offered or "").encode(), expected.encode())


def require(environment: Mapping[str, str], name: str) -> str:
    """The variable's value.

    Raises:
        MissingSettingError: it is absent or empty.
    """
    value = environment.get(name, "")
    if not value:
        raise MissingSettingError(f"{name} is not set")
    return value


def require_key(environment: Mapping[str, str], name: str) -> str:
    """A key of at least 16 printable ASCII characters; there is no default.

    Raises:
        MissingSettingError: it is absent, too short or not printable ASCII.
    """
    value = require(environment, name)
    if len(value) < MIN_KEY_LENGTH or not (value.isascii() and value.isprintable()):
        raise MissingSettingError(f"{name} must be at least {MIN_KEY_LENGTH} printable ASCII characters")
    return value
