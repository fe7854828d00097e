"""Rows of the main site as ``domain`` values, by an allow-list. A tariff's description is read for its amounts.

The panel reads only the fields named here. The real feed also carries root passwords: no field outside the list
survives parsing, and a refused row is reported by its fields' names, never by their values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from ipaddress import ip_interface
from typing import Any, NamedTuple, TypeVar

from domain.guests import GuestType
from domain.orders import Order, order_state_of
from domain.record_columns import HYPERVISORS, MAX_ID, MAX_INT
from domain.source_protocols import User
from sources.clock import rfc3339

W = TypeVar("W")

_TEXT_MAX = 255
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # half a surrogate pair has no UTF-8


class RowRefused(Exception):  # noqa: N818 - a verdict on a row
    """A row that does not fit the contract. ``str()`` names its fields, never their content."""


def _text(value: object) -> str | None:
    """Short printable text; empty means absent. No control characters: PostgreSQL cannot store a NUL."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("not a text")
    stripped = value.strip()
    if len(stripped) > _TEXT_MAX or _UNPRINTABLE.search(stripped):
        raise ValueError("not a short printable text")
    return stripped or None


def _identity(value: object) -> str | None:
    """An id written as a number or as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MAX_ID:
            raise ValueError("out of range")
        return str(value)
    return _text(value)


def _whole(minimum: int, maximum: int) -> Callable[[object], int | None]:
    """A whole number as sites write it: 4, 4.0 or "4"; empty means absent."""

    def validate(value: object) -> int | None:
        if value is None or value == "":
            return None
        number = _number(value)
        if number is None or not minimum <= number <= maximum:
            raise ValueError("not a whole number in range")
        return number

    return validate


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value) else None


_YEARS = range(1970, 3000)


def _moment(value: object) -> datetime | None:
    """A time of our age. Year 1, which some systems write for "never", lies too far off to be reckoned with."""
    if value is None or value == "":
        return None
    parsed = rfc3339(value) if isinstance(value, str) else None
    if parsed is None or parsed.year not in _YEARS:
        raise ValueError("not an RFC 3339 time of our age")
    return parsed


_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")  # ipaddress takes ten times longer to say the same


def _address(value: object) -> str | None:
    """One IP address. A word such as "pending" means that none is known yet."""
    text = _text(value)
    if text is None or _PLAIN_IPV4.fullmatch(text):
        return text
    try:
        return str(ip_interface(text).ip)
    except ValueError:
        return None


def _address_6(value: object) -> str | None:
    """One IPv6 address. An IPv4 address in such a field counts as missing."""
    address = _address(value)
    return address if address is not None and ":" in address else None


def _word_of(known: Mapping[str, W]) -> Callable[[object], W | None]:
    """What a word of a closed set means, in lower case. Any other word counts as unknown, not as an error."""

    def validate(value: object) -> W | None:
        text = _text(value)
        return None if text is None else known.get(text.lower())

    return validate


def _named(value: object) -> str | None:
    """Text, or an object with a ``name``: the two shapes of ``os``."""
    return _text(value.get("name") if isinstance(value, dict) else value)


def _described(value: object) -> str | None:
    """A tariff's description. A value of another form counts as missing, not as an error."""
    description = value.get("description") if isinstance(value, dict) else None
    return description if isinstance(description, str) else None


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not a truth value")
    return value


class Field(NamedTuple):
    """A field of a row. ``name``: of the value that is made of it; ``read``: makes it, and raises ``ValueError``. A
    field that is ``required`` has a value."""

    name: str
    feed_name: str
    read: Callable[[Any], object]
    required: bool = False


_amount = _whole(1, MAX_INT)
# Below 128 the sender means gigabytes. Taken as megabytes, it would shrink a customer's plan on paper.
_megabyte_count = _whole(128, MAX_INT)
_panel_id = _whole(1, MAX_ID)

SERVER_FIELDS = (
    Field("order_id", "id", _identity, required=True),
    Field("owner", "userId", _identity),
    Field("name", "name", _text),
    Field("status", "status", _text, required=True),
    Field("cpu", "cpu", _amount),
    Field("ram_mb", "ram", _megabyte_count),
    Field("disk_gb", "disk", _amount),
    Field("os", "os", _named),
    Field("ip_address", "ipAddress", _address),
    Field("ip6_address", "ip6Address", _address_6),
    Field("vmid", "proxmoxId", _whole(1, 999_999_999)),
    Field("created_at", "createdAt", _moment),
)
"""The fields of one server that every feed has. Their names are those of ``Order``."""

ORDER_FIELDS = (
    *SERVER_FIELDS,
    Field("panel_vps_id", "panelVpsId", _panel_id),
    Field("cluster", "cluster", _text),
    Field("node", "node", _text),
    Field("guest_type", "guestType", _word_of({word.value: word for word in GuestType})),
    Field("hypervisor", "hypervisor", _word_of({word: word for word in HYPERVISORS})),
    Field("updated_at", "updatedAt", _moment),
)
"""Those of the ``orders`` feed."""

_PANEL_API_FIELDS = (*SERVER_FIELDS, Field("tariff", "tariff", _described))
_USER_FIELDS = (
    Field("main_site_user_id", "id", _identity, required=True),
    Field("email", "email", _text),
    Field("email_verified", "emailVerified", _flag),
    Field("panel_user_id", "panelUserId", _panel_id),
)


def order_row(row: object) -> Order:
    """One row of ``/orders``; raises ``RowRefused``."""
    fields = _object(row)
    values = _read(ORDER_FIELDS, fields)
    return Order(state=order_state_of(values["status"]), panel_vps_id_given="panelVpsId" in fields, **values)


def panel_api_row(row: object, cluster: str | None) -> Order:
    """One server of ``panel-api`` in either shape; raises ``RowRefused``.

    ``cluster``: what ``proxmoxId`` belongs to. The owner is the user that the row names, if it names one.
    """
    values = _read(_PANEL_API_FIELDS, _object(row))
    plan = asdict(plan_of(values.pop("tariff") or ""))
    values |= {name: amount for name, amount in plan.items() if values[name] is None}
    values["cluster"] = cluster if values["vmid"] is not None else None
    return Order(state=order_state_of(values["status"]), panel_vps_id_given=False, **values)


def user_row(row: object) -> User:
    """One user; raises ``RowRefused``."""
    fields = _object(row)
    by = "name" if "username" not in fields and "name" in fields else "username"
    named = Field("username", by, _text, required=True)
    values = _read((named, *_USER_FIELDS), {"emailVerified": False, **fields})
    return User(**values)


def _object(row: object) -> dict[str, object]:
    if not isinstance(row, dict):
        raise RowRefused("not an object")
    return row


def _read(fields: Iterable[Field], row: Mapping[str, object]) -> dict[str, Any]:
    """The values of these fields, by their names; raises ``RowRefused`` with all that cannot be read. A field that is
    missing has no value."""
    values, refused = dict[str, Any](), list[str]()
    for name, feed_name, read, required in fields:
        try:
            value = read(row[feed_name]) if feed_name in row else None
        except ValueError:
            refused.append(feed_name)
            continue
        if value is None and required:
            refused.append(feed_name)
        values[name] = value
    if refused:
        # Raised outside the handler, so that no error that may hold a value is chained to it.
        raise RowRefused(", ".join(sorted(refused)))
    return values


_DESCRIPTION_MAX = 500  # characters
_SIZE = r"(?<![\d.,])(\d{1,6}(?:[.,]\d{1,3})?)\s*(MB|MiB|GB|GiB|TB|TiB|МБ|ГБ|ТБ)\s*"
_CPU = re.compile(r"(?<![\d.,])(\d{1,4})\s*x?\s*(?:v?CPU|vCores?|cores?|ядр)", re.IGNORECASE)
_RAM = re.compile(_SIZE + r"(?:RAM|DDR\d?|memory|ОЗУ)", re.IGNORECASE)
_DISK = re.compile(_SIZE + r"(?:NVMe|SSD|HDD|disk|диск)", re.IGNORECASE)
_MEGABYTES = {"M": 1, "G": 1024, "T": 1024 * 1024, "М": 1, "Г": 1024, "Т": 1024 * 1024}
_RAM_MIN_MB = 128


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tariff promises. ``None``: the text does not name the amount, names several, or one beyond counting."""

    cpu: int | None = None
    ram_mb: int | None = None
    disk_gb: int | None = None


def plan_of(description: str) -> Plan:
    """Read cores, RAM and disk from a description such as "2 CPU, 4GB RAM, 50GB SSD".

    Text that is not understood leaves the amount unknown.
    """
    text = description[:_DESCRIPTION_MAX]
    cores = _CPU.findall(text)
    ram_mb = _megabytes(_RAM.findall(text))
    disk_mb = _megabytes(_DISK.findall(text))
    return Plan(
        cpu=int(cores[0]) if len(cores) == 1 and int(cores[0]) > 0 else None,
        ram_mb=ram_mb if ram_mb is not None and _RAM_MIN_MB <= ram_mb <= MAX_INT else None,
        disk_gb=disk_mb // 1024 if disk_mb is not None and 1024 <= disk_mb <= 1024 * MAX_INT else None,
    )


def _megabytes(found: list[tuple[str, str]]) -> int | None:
    if len(found) != 1:
        return None
    number, unit = found[0]
    return round(float(number.replace(",", ".")) * _MEGABYTES[unit[0].upper()])
