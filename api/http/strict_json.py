"""JSON without the cases where two parsers disagree: no duplicate keys, no NaN, no NUL, bounded depth."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 32


class InvalidJsonError(ValueError):
    """The text is not JSON that the API accepts. The message may go to the caller, because it repeats no value."""


def parse_json(raw: bytes) -> Any:  # noqa: ANN401 - JSON is any of six types
    """Parse UTF-8 JSON. Raises InvalidJsonError."""
    try:
        text = raw.decode()
        value = DECODER.decode(text) if not text.startswith(BYTE_ORDER_MARK) else json.loads(text)
    except InvalidJsonError:
        raise
    except UnicodeDecodeError:
        raise InvalidJsonError("the text is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidJsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise InvalidJsonError(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # an integer of more digits than Python converts
        raise InvalidJsonError("a number is too large") from None
    if not _is_harmless(raw):
        _check(value)
    return value


def canonical_hash(value: Any) -> str:  # noqa: ANN401
    """SHA-256, in hex, of a parsed value: equal for bodies that differ only in spacing or order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJsonError("a key occurs twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise InvalidJsonError(f"{name} is not a JSON value")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise InvalidJsonError("a number is too large")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
BYTE_ORDER_MARK = "\ufeff"  # json.loads refuses it, and says so


def _is_harmless(raw: bytes) -> bool:
    """Whether nothing that ``_check`` looks for can be in this text. So it is with nearly every call."""
    return raw.isascii() and b"\\u" not in raw and raw.count(b"{") + raw.count(b"[") < MAX_DEPTH


def _check(value: object) -> None:
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidJsonError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(item, dict):
            waiting.extend((key, depth) for key in item)
            waiting.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            waiting.extend((child, depth + 1) for child in item)
        elif isinstance(item, str):
            if "\x00" in item:
                raise InvalidJsonError("a text contains a NUL character")
            if not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item):
                raise InvalidJsonError("a text contains half of a surrogate pair")
