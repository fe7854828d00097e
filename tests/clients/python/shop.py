"""A shop that sells VPS: ``python -m tests.clients.python.shop PORT``. It answers as its TypeScript sibling does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from tests.clients.python.panel_client import PanelError, SoldVps, announce_vps, report_status, withdraw_vps

panel_ids: dict[int, int] = {}


def complete(body: dict[str, Any]) -> dict[str, Any]:
    synced = announce_vps(SoldVps(user_id=body["user_id"], **body["vps_config"]))
    panel_ids[body["order_id"]] = synced["id"]
    return {"vps_id": synced["id"], "message": "VPS created successfully"}


def status(body: dict[str, Any]) -> dict[str, Any]:
    synced = report_status(_panel_id(body["order_id"]), body["status"])
    return {"vps_id": synced["id"], "status": synced["status"]}


def cancel(body: dict[str, Any]) -> dict[str, Any]:
    answer = withdraw_vps(_panel_id(body["order_id"]))
    return {"vps_id": answer["vps"]["id"], "message": answer["message"]}


def link(body: dict[str, Any]) -> dict[str, Any]:
    """An operator's correction: the id was noted wrongly, or comes from elsewhere."""
    panel_ids[body["order_id"]] = body["vps_id"]
    return {}


def _panel_id(order_id: int) -> int:
    if order_id not in panel_ids:
        raise PanelError(f"Order {order_id} has no VPS")
    return panel_ids[order_id]


ROUTES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "/orders/complete": complete,
    "/orders/status": status,
    "/orders/cancel": cancel,
    "/orders/link": link,
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path not in ROUTES:
            self._answer(404, {"success": False, "message": "Not found"})
            return
        try:
            self._answer(200, {"success": True, **ROUTES[self.path](body)})
        except (PanelError, httpx.TransportError) as error:
            self._answer(500, {"success": False, "message": str(error)})

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
