"""Rows of the main site as ``domain`` values, by an allow-list. A tariff's description is read for its amounts.

The panel reads only the fields named here. The real feed also carries root passwords: no field outside the list
survives parsing, and a refused row is reported by its fields' names, never by their values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from ipaddress import ip_interface
from typing import Annotated, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from domain.guests import GuestType
from domain.orders import Order, order_state_of
from domain.record_columns import HYPERVISORS, MAX_ID, MAX_INT
from domain.source_protocols import User
from sources.clock import rfc3339

_TEXT_MAX = 255

RowT = TypeVar("RowT", bound="_Row")


class RowRefused(Exception):  # noqa: N818 - a verdict on a row
    """A row that does not fit the contract. ``str()`` names its fields, never their content."""


def _text(value: object) -> str | None:
    """Short printable text; empty means absent. No control characters: PostgreSQL cannot store a NUL."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("not a text")
    stripped = value.strip()
    if len(stripped) > _TEXT_MAX or any(ord(character) < 32 or ord(character) == 127 for character in stripped):
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


def _address(value: object) -> str | None:
    """One IP address. A word such as "pending" means that none is known yet."""
    text = _text(value)
    try:
        return None if text is None else str(ip_interface(text).ip)
    except ValueError:
        return None


def _address_6(value: object) -> str | None:
    """One IPv6 address. An IPv4 address in such a field counts as missing."""
    address = _address(value)
    return address if address is not None and ":" in address else None


def _word_of(known: frozenset[str]) -> Callable[[object], str | None]:
    """A lower-cased word of a closed set. Any other word counts as unknown, not as an error."""

    def validate(value: object) -> str | None:
        text = _text(value)
        return text.lower() if text is not None and text.lower() in known else None

    return validate


def _named(value: object) -> str | None:
    """Text, or an object with a ``name``: the two shapes of ``os``."""
    return _text(value.get("name") if isinstance(value, dict) else value)


def _described(value: object) -> str | None:
    """A tariff's description. A value of another form counts as missing, not as an error."""
    description = value.get("description") if isinstance(value, dict) else None
    return description if isinstance(description, str) else None


Identity = Annotated[str, BeforeValidator(_identity)]
OptionalIdentity = Annotated[str | None, BeforeValidator(_identity)]
Text = Annotated[str, BeforeValidator(_text)]
OptionalText = Annotated[str | None, BeforeValidator(_text)]
PanelId = Annotated[int | None, BeforeValidator(_whole(1, MAX_ID))]
Vmid = Annotated[int | None, BeforeValidator(_whole(1, 999_999_999))]
Amount = Annotated[int | None, BeforeValidator(_whole(1, MAX_INT))]
# Below 128 the sender means gigabytes. Taken as megabytes, it would shrink a customer's plan on paper.
Megabytes = Annotated[int | None, BeforeValidator(_whole(128, MAX_INT))]
Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Address = Annotated[str | None, BeforeValidator(_address)]
Address6 = Annotated[str | None, BeforeValidator(_address_6)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)


class ServerRow(_Row):
    """The fields of one server that every feed has. Names are those of ``Order``, aliases those of the feeds."""

    order_id: Identity = Field(alias="id")
    owner: OptionalIdentity = Field(default=None, alias="userId")
    name: OptionalText = None
    status: Text
    cpu: Amount = None
    ram_mb: Megabytes = Field(default=None, alias="ram")
    disk_gb: Amount = Field(default=None, alias="disk")
    os: Annotated[str | None, BeforeValidator(_named)] = None
    ip_address: Address = Field(default=None, alias="ipAddress")
    ip6_address: Address6 = Field(default=None, alias="ip6Address")
    vmid: Vmid = Field(default=None, alias="proxmoxId")
    created_at: Moment = Field(default=None, alias="createdAt")


class OrderRow(ServerRow):
    """The further fields of the ``orders`` feed."""

    panel_vps_id: PanelId = Field(default=None, alias="panelVpsId")
    cluster: OptionalText = None
    node: OptionalText = None
    guest_type: Annotated[str | None, BeforeValidator(_word_of(frozenset(GuestType)))] = Field(
        default=None, alias="guestType"
    )
    hypervisor: Annotated[str | None, BeforeValidator(_word_of(frozenset(HYPERVISORS)))] = None
    updated_at: Moment = Field(default=None, alias="updatedAt")


class _PanelApiRow(ServerRow):
    tariff: Annotated[str | None, BeforeValidator(_described)] = None


class _UserRow(_Row):
    id: Identity
    username: Text = Field(validation_alias=AliasChoices("username", "name"))
    email: OptionalText = None
    email_verified: bool = Field(default=False, alias="emailVerified")
    panel_user_id: PanelId = Field(default=None, alias="panelUserId")


def order_row(row: object) -> Order:
    """One row of ``/orders``; raises ``RowRefused``."""
    parsed = _validated(OrderRow, row)
    values = dict(parsed) | {"guest_type": None if parsed.guest_type is None else GuestType(parsed.guest_type)}
    given = "panel_vps_id" in parsed.model_fields_set
    return Order(state=order_state_of(parsed.status), panel_vps_id_given=given, **values)


def panel_api_row(row: object, cluster: str | None) -> Order:
    """One server of ``panel-api`` in either shape; raises ``RowRefused``.

    ``cluster``: what ``proxmoxId`` belongs to. The owner is the user that the row names, if it names one.
    """
    parsed = _validated(_PanelApiRow, row)
    values = dict(parsed)
    plan = asdict(plan_of(values.pop("tariff") or ""))
    values |= {name: amount for name, amount in plan.items() if values[name] is None}
    values["cluster"] = cluster if parsed.vmid is not None else None
    return Order(state=order_state_of(parsed.status), panel_vps_id_given=False, **values)


def user_row(row: object) -> User:
    """One user; raises ``RowRefused``."""
    parsed = _validated(_UserRow, row)
    return User(
        main_site_user_id=parsed.id,
        username=parsed.username,
        email=parsed.email,
        email_verified=parsed.email_verified,
        panel_user_id=parsed.panel_user_id,
    )


def _validated(model: type[RowT], row: object) -> RowT:
    try:
        return model.model_validate(row)
    except ValidationError as error:
        refused = _refusal(error)
    # Raised outside the handler, so that the library's error, which holds the row, is not chained to ours.
    raise refused


def _refusal(error: ValidationError) -> RowRefused:
    details = error.errors(include_input=False, include_context=False, include_url=False)
    fields = sorted({str(detail["loc"][0]) for detail in details if detail["loc"]})
    return RowRefused(", ".join(fields) if fields else "not an object")


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
