"""Rows and tariffs: the allow-list, and that nothing of any shape can break the parser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.orders import OrderState
from domain.source_protocols import User
from sources.main_site.parse import Plan, RowRefused, order_row, panel_api_row, plan_of, user_row
from tests.unit.sources.canned import CANARY, order

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    *("id", "userId", "panelVpsId", "proxmoxId", "cluster", "node", "guestType", "name", "status", "cpu", "ram"),
    *("disk", "os", "ipAddress", "ip6Address", "hypervisor", "createdAt", "updatedAt", "tariff", "rootPassword"),
    *("username", "email", "emailVerified", "panelUserId"),
]
ROWS = JSON | st.dictionaries(st.sampled_from(FIELDS), JSON)


def outcome(parse: Callable[[object], object], row: object) -> object:
    try:
        return parse(row)
    except RowRefused as refused:
        return refused


@given(row=ROWS)
def test_parsing_gives_a_value_or_refuses_and_never_breaks(row: object) -> None:
    for parse in (order_row, user_row, lambda given: panel_api_row(given, "main")):
        found = outcome(parse, row)
        if isinstance(found, RowRefused):
            assert set(str(found).split(", ")) <= {*FIELDS, "not an object"}
            # The parser's own error holds the row: it must not hang on to this one.
            assert found.__cause__ is None
            assert found.__context__ is None
        else:
            assert is_dataclass(found)
            texts = [getattr(found, field.name) for field in fields(found)]
            assert not any(isinstance(text, str) and "\0" in text for text in texts)


@given(secret=st.text(min_size=8), field=st.sampled_from(FIELDS))
def test_a_secret_survives_in_no_field_that_is_not_listed(secret: str, field: str) -> None:
    row = order(1, rootPassword=secret, credentials={field: secret})
    assert order_row(row) == order_row(order(1))


@pytest.mark.parametrize(
    ("given_fields", "refused"),
    [
        pytest.param({"id": None}, "id", id="no id"),
        pytest.param({"id": True}, "id", id="a truth value is no id"),
        pytest.param({"id": -1}, "id", id="negative id"),
        pytest.param({"id": 2**63}, "id", id="an id beyond PostgreSQL"),
        pytest.param({"status": ""}, "status", id="empty status"),
        pytest.param({"status": 5}, "status", id="status is a number"),
        pytest.param({"cpu": 0}, "cpu", id="no cores"),
        pytest.param({"cpu": 1.5}, "cpu", id="half a core"),
        pytest.param({"cpu": True}, "cpu", id="a truth value is no number"),
        pytest.param({"ram": 4}, "ram", id="gigabytes where megabytes are meant"),
        pytest.param({"disk": 2**31}, "disk", id="a disk beyond PostgreSQL"),
        pytest.param({"name": "a\0b"}, "name", id="NUL in a text"),
        pytest.param({"name": "x" * 256}, "name", id="a text beyond its column"),
        pytest.param({"name": ["a"]}, "name", id="name is a list"),
        pytest.param({"createdAt": "yesterday"}, "createdAt", id="no time"),
        pytest.param({"createdAt": "2026-01-01T00:00:00"}, "createdAt", id="a time without a zone"),
        pytest.param({"createdAt": "0001-01-01T00:00:00+14:00"}, "createdAt", id="a time before time"),
        pytest.param({"createdAt": "0001-01-01T00:00:00Z"}, "createdAt", id="year 1, no time can be before it"),
        pytest.param({"updatedAt": "9999-12-31T23:59:59Z"}, "updatedAt", id="the last year, no time can be after it"),
        pytest.param({"proxmoxId": 0}, "proxmoxId", id="VMID 0"),
        pytest.param({"id": None, "ram": CANARY}, "id, ram", id="two fields"),
    ],
)
def test_a_refusal_names_the_fields(given_fields: dict[str, object], refused: str) -> None:
    with pytest.raises(RowRefused) as caught:
        order_row(order(1, **given_fields))
    assert str(caught.value) == refused


@pytest.mark.parametrize(
    ("field", "written", "attribute", "read"),
    [
        ("id", "ord-1", "order_id", "ord-1"),
        ("cpu", "4", "cpu", 4),
        ("cpu", 4.0, "cpu", 4),
        ("cpu", "", "cpu", None),
        ("userId", None, "owner", None),
        ("userId", "u-1", "owner", "u-1"),
        ("guestType", "QEMU", "guest_type", "qemu"),
        ("guestType", "jail", "guest_type", None),
        ("hypervisor", "VMware", "hypervisor", "vmware"),
        ("hypervisor", "bhyve", "hypervisor", None),
        ("ipAddress", "2001:DB8::1", "ip_address", "2001:db8::1"),
        ("ipAddress", "192.0.2.1/24", "ip_address", "192.0.2.1"),
        ("ipAddress", "soon", "ip_address", None),
        ("ip6Address", "2001:DB8::1/64", "ip6_address", "2001:db8::1"),
        ("ip6Address", "192.0.2.1", "ip6_address", None),
        ("ip6Address", "soon", "ip6_address", None),
        ("name", "  ", "name", None),
        ("panelVpsId", None, "panel_vps_id_given", True),
        ("somethingElse", 1, "panel_vps_id_given", False),
        ("status", "frozen", "state", OrderState.UNKNOWN),
        ("status", "creating", "state", OrderState.PENDING),
        ("status", "cancelled", "state", OrderState.ENDED),
    ],
)
def test_values_as_sites_write_them(field: str, written: object, attribute: str, read: object) -> None:
    assert getattr(order_row(order(1, **{field: written})), attribute) == read


def test_a_user_may_be_named_by_another_word() -> None:
    assert user_row({"id": "7", "name": "ann", "email": ""}) == User(main_site_user_id="7", username="ann")


@pytest.mark.parametrize(
    ("description", "plan"),
    [
        ("2 CPU, 4GB RAM, 50GB SSD", Plan(2, 4096, 50)),
        ("1 vCPU / 512 MB RAM / 10 GB NVMe", Plan(1, 512, 10)),
        ("8 vCores, 1.5 GB memory, 1 TB HDD", Plan(8, 1536, 1024)),
        ("4 ядра, 8 ГБ ОЗУ, 100 ГБ SSD", Plan(4, 8192, 100)),
        ("2x CPU, 16GiB DDR4, 200GB disk", Plan(2, 16384, 200)),
        ("For blogs and small shops", Plan()),
        ("", Plan()),
        ("2 CPU", Plan(cpu=2)),
        ("50GB SSD + 500GB HDD", Plan()),
        ("2 CPU or 4 CPU", Plan()),
        ("64 MB RAM, 0 CPU, 100 MB SSD", Plan()),
        ("RAM to spare: 4 GB", Plan()),
        ("2047 TB RAM", Plan(ram_mb=2047 * 1024 * 1024)),
        ("4096TB RAM, 2 CPU", Plan(cpu=2)),
        ("999999 TB RAM, 999999 TB SSD", Plan(disk_gb=999_999 * 1024)),
    ],
)
def test_a_plan_is_read_from_prose_or_left_unknown(description: str, plan: Plan) -> None:
    assert plan_of(description) == plan


@given(text=st.text())
def test_any_prose_can_be_read(text: str) -> None:
    plan = plan_of(text)
    assert plan.cpu is None or plan.cpu > 0
