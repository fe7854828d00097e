"""The pinned audit tools themselves, installed as ``make audit`` does: pip-audit against a service of this test's own,
and the whole bill of materials."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runtime.processes.free_ports import free_port
from tools.supply_chain.__main__ import main
from tools.supply_chain.bill import LOCK, MARKER
from tools.supply_chain.locks import pins, spelt
from tools.supply_chain.tools import ROOT, install

pytestmark = pytest.mark.audit


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    install()


class Service(ThreadingHTTPServer):
    """Answers as the OSV database does; what is in ``vulnerable`` has one vulnerability."""

    vulnerable: frozenset[str] = frozenset()


class Answers(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        vuln = {
            "id": "GHSA-test",
            "summary": "for the test",
            "details": "for the test",
            "affected": [
                {
                    "package": {"name": asked, "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
                }
            ],
        }
        body = json.dumps({"vulns": [vuln]} if asked in self.server.vulnerable else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Answers) as made:
        monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{made.server_port}/v1/query")
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def lock(tmp_path: Path) -> str:
    path = tmp_path / "two.lock"
    path.write_text(f"amqp==5.4.2 --hash=sha256:{'0' * 64}\nvine==5.1.0 --hash=sha256:{'0' * 64}\n", encoding="ascii")
    return str(path)


def test_nothing_known(service: Service, lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", lock]) == 0
    assert capsys.readouterr().out == "clean: no known vulnerability in 2 packages\n"


def test_a_vulnerability_fails_the_build(service: Service, lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    service.vulnerable = frozenset({"vine"})
    assert main(["audit", lock]) == 1
    assert capsys.readouterr().out == "vulnerable: vine 5.1.0: GHSA-test (mended in 99)\n"


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], 3)])
def test_nobody_there_to_ask(
    arguments: list[str], code: int, lock: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{free_port()}/v1/query")
    assert main(["audit", *arguments, lock]) == code
    assert capsys.readouterr().out.startswith("not checked: no network")


def test_the_bill_names_every_pin_and_nothing_of_this_moment(tmp_path: Path) -> None:
    assert main(["sbom", str(tmp_path / "sbom.json")]) == 0
    bill = json.loads((tmp_path / "sbom.json").read_bytes())
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
    named = {(spelt(component["name"]), component["version"]) for component in bill["components"]}
    assert named == {(pin.name, pin.version) for pin in pins((ROOT / LOCK).read_text(encoding="utf-8"))}
    for component in bill["components"]:
        markers = {entry["name"] for entry in component.get("properties", [])}
        assert "licenses" in component or MARKER in markers, component["name"]
        assert component["externalReferences"][0]["hashes"]
