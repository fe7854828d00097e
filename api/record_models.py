"""A VPS as requests and answers describe it: made from the columns of a record and the rules of a sync call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, create_model
from pydantic.config import JsonDict

from api.main_site.sync_call import CREATE_DEFAULTS, CREATE_REQUIRED, LABEL, NODE
from domain.record_columns import MAX_ID, Kind, Reader, RecordColumn, ValueSource, given_by, seen_by

Id = Annotated[int, Field(ge=1, le=MAX_ID)]

_TEXT = r"^[^{0}]*[^{0}\s][^{0}]*$".format(r"\u0000-\u001f\u007f-\u009f\u2028\u2029")
Text = Annotated[
    str, Field(min_length=1, max_length=255, json_schema_extra={"pattern": _TEXT}, description="No control characters")
]
OrderId = (
    Annotated[str, Field(min_length=1, max_length=64, json_schema_extra={"pattern": _TEXT})]
    | Annotated[int, Field(ge=0, le=MAX_ID)]
)
_IPV6 = Annotated[str, Field(json_schema_extra={"format": "ipv6"})]

CALL_TYPES: Mapping[Kind, Any] = {
    Kind.TEXT: Text,
    Kind.LABEL: Annotated[str, Field(pattern=f"^{LABEL.pattern}$")],
    Kind.HOST: Annotated[str, Field(pattern=f"^{NODE.pattern}$")],
    Kind.ORDER_ID: OrderId,
    Kind.ADDRESS: Annotated[str, Field(json_schema_extra={"format": "ipv4"})] | _IPV6,
    Kind.ADDRESS_6: _IPV6,
}
"""By kind of column, the type of a value in a call. Numbers and words have their own limits."""

ANSWER_TYPES: Mapping[Kind, Any] = {Kind.ID: Id, Kind.WHOLE: int, Kind.FLAG: bool, Kind.TIME: AwareDatetime}
"""By kind of column, the type of a value in an answer. Every other kind is a text."""

_TOGETHER: JsonDict = {
    "anyOf": [
        {"properties": {"cluster": {"type": "null"}, "vmid": {"type": "null"}}},
        {
            "properties": {"cluster": {"type": "string"}, "vmid": {"type": "integer"}},
            "required": ["cluster", "vmid"],
        },
    ]
}
_NAMED: JsonDict = {
    "anyOf": [
        {"properties": {"id": {"type": "integer"}}, "required": ["id"]},
        {"properties": {"order_id": {"type": ["string", "integer"]}}, "required": ["order_id"]},
    ]
}


def _words(column: RecordColumn) -> Any:  # noqa: ANN401 - a type
    literal: Any = Literal
    return literal[tuple(map(str, column.words))]


def _call_type(column: RecordColumn) -> Any:  # noqa: ANN401 - a type
    """The type of a column's value in a call."""
    if column.kind is Kind.WORD:
        return _words(column)
    if column.limits is not None:
        low, high = column.limits
        return Annotated[int, Field(ge=low, le=high, description=column.unit)]
    return CALL_TYPES[column.kind]


def _answer_type(column: RecordColumn) -> Any:  # noqa: ANN401 - a type
    """The type of a column's value in an answer."""
    shown = _words(column) if column.kind is Kind.WORD else ANSWER_TYPES.get(column.kind, str)
    if column.unit is not None:
        shown = Annotated[shown, Field(description=column.unit)]
    return shown if column.required else shown | None


def _call(name: str, about: str, required: tuple[str, ...], *rules: JsonDict, **more: Any) -> type[BaseModel]:  # noqa: ANN401
    """The ``vps`` object of a call. ``more``: fields that are no column."""
    fields = more | {column.json_name: _call_type(column) for column in given_by(ValueSource.CALL)}
    defaults = CREATE_DEFAULTS if name == "NewVps" else {}
    taken: dict[str, Any] = {
        field: (kind, ...) if field in required else (kind | None, defaults.get(field))
        for field, kind in fields.items()
    }
    return create_model(name, __doc__=about, __config__=ConfigDict(json_schema_extra={"allOf": [*rules]}), **taken)


if TYPE_CHECKING:  # a type checker does not see a model that is made from data
    Record = BaseModel
    NewVps = BaseModel
    ChangedVps = BaseModel
    DeletedVps = BaseModel
else:
    Record = create_model(
        "Record",
        __doc__="A VPS as the panel records it.",
        **{column.json_name: (_answer_type(column), ...) for column in seen_by(Reader.MAIN_SITE)},
    )
    NewVps = _call("NewVps", "What a create needs. ``cluster`` and ``vmid`` go together.", CREATE_REQUIRED, _TOGETHER)
    ChangedVps = _call(
        "ChangedVps",
        "What an update needs: ``status``, and ``id`` or ``order_id``. Other fields are allowed.",
        ("status",), _TOGETHER, _NAMED, id=Id,
    )  # fmt: skip
    DeletedVps = _call(
        "DeletedVps",
        "What a delete needs: ``id`` or ``order_id``. Other fields are allowed.",
        (), _TOGETHER, _NAMED, id=Id,
    )  # fmt: skip


class ClientRecord(Record):
    """A VPS as its owner sees it."""

    power_detail: Annotated[str | None, Field(description="Proxmox's own word where it says more")]
    as_of: Annotated[AwareDatetime, Field(description="When the power state was last confirmed")]
    source: Annotated[str, Field(description="Who confirmed it")]
    stale: Annotated[bool, Field(description="Whether a record with a guest was not confirmed for 10 minutes")]
