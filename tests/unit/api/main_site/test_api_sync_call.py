"""What a sync call's body is refused for, in which words; and that nothing else than a refusal can come of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.problems import ProblemError
from api.main_site.sync_call import AuditableFields, auditable_fields, parse_call
from panel.journal.calls import PAYLOAD_FIELDS

PLAN: dict[str, Any] = {"user_id": 5, "name": "web-01", "cpu": 4, "ram": 8192, "disk": 100, "os": "Ubuntu 22.04"}


def create(**fields: object) -> dict[str, Any]:
    return {"action": "create", "vps": PLAN | fields}


def without(*names: str) -> dict[str, Any]:
    return {"action": "create", "vps": {k: v for k, v in PLAN.items() if k not in names}}


def update(**fields: object) -> dict[str, Any]:
    return {"action": "update", "vps": {"id": 7, "status": "running"} | fields}


MISSING: list[tuple[str, object, list[str]]] = [
    ("an empty body", {}, ["action", "vps"]),
    ("no action", {"vps": PLAN}, ["action"]),
    ("no vps", {"action": "create"}, ["vps"]),
    ("null counts as missing", {"action": None, "vps": None}, ["action", "vps"]),
    ("a create without a plan", without("cpu", "os"), ["vps.cpu", "vps.os"]),
    ("all of a create", {"action": "create", "vps": {}}, [f"vps.{name}" for name in PLAN]),
    ("NaN arrives as null", create(ram=None), ["vps.ram"]),
    ("an update of nothing", {"action": "update", "vps": {}}, ["vps.id", "vps.status"]),
    ("an update without status", {"action": "update", "vps": {"id": 1}}, ["vps.status"]),
    ("an update that names nothing", {"action": "update", "vps": {"status": "running"}}, ["vps.id"]),
    ("an update by order without status", {"action": "update", "vps": {"order_id": 9}}, ["vps.status"]),
    ("a delete that names nothing", {"action": "delete", "vps": {}}, ["vps.id"]),
]


@pytest.mark.parametrize(("body", "missing"), [row[1:] for row in MISSING], ids=[row[0] for row in MISSING])
def test_what_is_missing_is_named_in_one_message(body: object, missing: list[str]) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_call(body)
    error = refused.value
    assert (error.status_code, error.code) == (400, "missing_fields")
    assert error.message == f"Missing required fields: {', '.join(missing)}"
    assert error.extra == {"missing": missing}


MB = "must be in MB, at least 128"
STATUSES = "must be one of creating, running, stopped, suspended, error"
HYPERVISORS = "must be one of proxmox, vmware, hyperv, kvm, xen"
ORDER_ID = "must be a text of 1 to 64 characters or an integer"
CLUSTER = "must be 1 to 63 letters, digits, '_', '.' or '-', the first a letter or digit"
NODE = "must be 1 to 63 letters, digits, '.' or '-', the first a letter or digit"
IP = "must be an IPv4 or IPv6 address"
IP6 = "must be an IPv6 address"
CONTROL = "must not contain control characters or line breaks"
ID_RANGE = "must be between 1 and 9223372036854775807"

WRONG: list[tuple[str, object, str, str]] = [
    ("a list", [], "body", "must be a JSON object"),
    ("a text", "create", "body", "must be a JSON object"),
    ("an unknown action", {"action": "destroy", "vps": {}}, "action", "must be one of create, update, delete"),
    ("an action of another case", {"action": "Create", "vps": {}}, "action", "must be one of create, update, delete"),
    ("an action that is a list", {"action": ["create"], "vps": {}}, "action", "must be one of create, update, delete"),
    ("vps is a list", {"action": "create", "vps": [1]}, "vps", "must be a JSON object"),
    ("vps is false", {"action": "create", "vps": False}, "vps", "must be a JSON object"),
    ("user id as text", create(user_id="5"), "vps.user_id", "must be an integer"),
    ("user id true", create(user_id=True), "vps.user_id", "must be an integer"),
    ("user id with a fraction", create(user_id=5.5), "vps.user_id", "must be an integer"),
    ("user id zero", create(user_id=0), "vps.user_id", ID_RANGE),
    ("user id beyond the database", create(user_id=2**63), "vps.user_id", ID_RANGE),
    ("cpu zero", create(cpu=0), "vps.cpu", "must be between 1 and 1024"),
    ("cpu 1025", create(cpu=1025), "vps.cpu", "must be between 1 and 1024"),
    ("ram in GB", create(ram=8), "vps.ram", f"{MB} (8 looks like GB)"),
    ("ram just too small", create(ram=127), "vps.ram", f"{MB} (127 looks like GB)"),
    ("ram zero", create(ram=0), "vps.ram", MB),
    ("ram negative", create(ram=-1024), "vps.ram", MB),
    ("ram as text", create(ram="8192"), "vps.ram", "must be an integer"),
    ("ram beyond the column", create(ram=2**31), "vps.ram", "must be in MB, at most 2147483647"),
    ("disk zero", create(disk=0), "vps.disk", "must be between 1 and 2147483647"),
    ("disk as list", create(disk=[100]), "vps.disk", "must be an integer"),
    ("name as number", create(name=7), "vps.name", "must be a text"),
    ("name of spaces", create(name="  "), "vps.name", "must be 1 to 255 characters long"),
    ("name too long", create(name="x" * 256), "vps.name", "must be 1 to 255 characters long"),
    ("name with a line break", create(name="a\nb"), "vps.name", CONTROL),
    ("name with a Unicode line break", create(name="a\u2028b"), "vps.name", CONTROL),
    ("name with an escape", create(name="a\x1b[2Jb"), "vps.name", CONTROL),
    ("os empty", create(os=""), "vps.os", "must be 1 to 255 characters long"),
    ("status deleted", update(status="deleted"), "vps.status", "cannot be set to deleted: use action delete"),
    ("status unknown", update(status="paused"), "vps.status", STATUSES),
    ("status of another case", update(status="Running"), "vps.status", STATUSES),
    ("status a number", update(status=1), "vps.status", STATUSES),
    ("hypervisor unknown", create(hypervisor="qemu"), "vps.hypervisor", HYPERVISORS),
    ("ip address wrong", create(ip_address="10.0.0.256"), "vps.ip_address", IP),
    ("ip address with a prefix", create(ip_address="10.0.0.1/24"), "vps.ip_address", IP),
    ("ip address of one host's scope", create(ip_address="fe80::1%eth0"), "vps.ip_address", IP),
    ("ip address a number", create(ip_address=167772161), "vps.ip_address", IP),
    ("ip6 address of IPv4", create(ip6_address="192.0.2.1"), "vps.ip6_address", IP6),
    ("ip6 address with a prefix", update(ip6_address="2001:db8::1/64"), "vps.ip6_address", IP6),
    ("ip6 address of one host's scope", create(ip6_address="fe80::1%eth0"), "vps.ip6_address", IP6),
    ("ip6 address a list", create(ip6_address=["2001:db8::1"]), "vps.ip6_address", IP6),
    ("order id true", create(order_id=True), "vps.order_id", ORDER_ID),
    ("order id a list", create(order_id=[1]), "vps.order_id", ORDER_ID),
    ("order id too long", create(order_id="9" * 65), "vps.order_id", "must be 1 to 64 characters long"),
    ("order id negative", create(order_id=-1), "vps.order_id", "must be between 0 and 9223372036854775807"),
    ("cluster with a slash", create(cluster="a/b", vmid=100), "vps.cluster", CLUSTER),
    ("node with a space", create(cluster="a", vmid=100, node="a b"), "vps.node", NODE),
    ("vmid below Proxmox's first", create(cluster="a", vmid=99), "vps.vmid", "must be between 100 and 999999999"),
    ("guest type", create(guest_type="vm"), "vps.guest_type", "must be one of qemu, lxc"),
    (
        "cluster alone",
        create(cluster="a"),
        "vps.vmid",
        "must be sent with vps.cluster: only both together name a guest",
    ),
    ("vmid alone", update(vmid=100), "vps.cluster", "must be sent with vps.vmid: only both together name a guest"),
    ("id as text", update(id="7"), "vps.id", "must be an integer"),
    ("id zero", {"action": "delete", "vps": {"id": 0}}, "vps.id", ID_RANGE),
    ("id too large", {"action": "delete", "vps": {"id": 2**63}}, "vps.id", ID_RANGE),
]


@pytest.mark.parametrize(("body", "field", "how"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_named_with_its_remedy(body: object, field: str, how: str) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_call(body)
    error = refused.value
    assert (error.status_code, error.code, error.message) == (422, "invalid_field", f"{field} {how}")
    assert error.extra == {"field": field}


def test_create_keeps_the_contracts_words_and_adds_its_defaults() -> None:
    call = parse_call(create(extra="ignored", id=99, rootPassword="x"))
    assert call.action == "create"
    assert call.payload == PLAN | {"status": "creating", "hypervisor": "proxmox"}
    assert (call.vps_id, call.order_id) == (None, None)


KEPT: list[tuple[str, dict[str, Any], str, object]] = [
    ("4.0 is the integer 4", create(cpu=4.0), "cpu", 4),
    ("texts are trimmed", create(name="  web  "), "name", "web"),
    ("a numeric order id is kept as text", create(order_id=1204), "order_id", "1204"),
    ("an order id keeps its own zeros", create(order_id="0012"), "order_id", "0012"),
    ("an IPv6 address is written one way", create(ip_address="2001:DB8:0::1"), "ip_address", "2001:db8::1"),
    ("the same of the other field", create(ip6_address=" 2001:DB8:0::1 "), "ip6_address", "2001:db8::1"),
    ("null hypervisor means the default", create(hypervisor=None), "hypervisor", "proxmox"),
    ("the smallest ram", create(ram=128), "ram", 128),
    ("a name in any script", create(name="сервер-01"), "name", "сервер-01"),
    ("a guest", create(cluster="pve-1", vmid=100, guest_type="lxc"), "vmid", 100),
]


@pytest.mark.parametrize(("body", "field", "value"), [row[1:] for row in KEPT], ids=[row[0] for row in KEPT])
def test_a_valid_field_is_kept_in_one_form(body: object, field: str, value: object) -> None:
    kept = parse_call(body).payload[field]
    assert (kept, type(kept)) == (value, type(value))


@pytest.mark.parametrize("body", [update(), {"action": "delete", "vps": {"id": 7}}], ids=["update", "delete"])
def test_an_update_and_a_delete_name_their_vps(body: object) -> None:
    call = parse_call(body)
    assert call.vps_id == 7
    assert "hypervisor" not in call.payload, "a default must not overwrite what is recorded"


def test_an_order_names_a_vps_as_well() -> None:
    call = parse_call({"action": "delete", "vps": {"order_id": 12}})
    assert (call.vps_id, call.order_id) == (None, "12")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
VPS = st.dictionaries(st.sampled_from([*PAYLOAD_FIELDS, "id", "rootPassword"]), JSON)
BODIES = JSON | st.fixed_dictionaries({"action": st.sampled_from(["create", "update", "delete"]) | JSON, "vps": VPS})


@given(BODIES)
def test_any_body_is_a_call_or_a_refusal_that_names_the_reason(body: object) -> None:
    auditable_fields(body)
    try:
        call = parse_call(body)
    except ProblemError as error:
        refused = error
    else:
        assert call.payload.keys() <= set(PAYLOAD_FIELDS)
        json.dumps(call.payload, allow_nan=False).encode()
        return
    assert refused.status_code in {400, 422}
    assert refused.extra.keys() in ({"missing"}, {"field"})


@given(st.fixed_dictionaries({name: st.just(value) for name, value in PLAN.items()}, optional={
    "order_id": st.integers(0, 2**63 - 1) | st.text("abc123", min_size=1, max_size=64),
    "ip_address": st.ip_addresses().map(str),
    "ip6_address": st.ip_addresses(v=6).map(str),
    "status": st.sampled_from(["creating", "running", "stopped", "suspended", "error"]),
}))  # fmt: skip
def test_what_was_kept_is_accepted_again_unchanged(vps: dict[str, Any]) -> None:
    first = parse_call({"action": "create", "vps": vps})
    again = parse_call({"action": "create", "vps": first.payload})
    assert again == first


def test_the_audit_notes_only_what_is_well_formed() -> None:
    body = {"action": "update", "vps": {"id": 7, "user_id": "secret", "order_id": 9, "status": "deleted"}}
    assert auditable_fields(body) == AuditableFields(action="update", user_id=None, order_id="9", vps_id=7)
    assert auditable_fields({"action": "steal", "vps": "x"}) == AuditableFields()
    assert auditable_fields(None) == AuditableFields()
