"""Serve the main site.

    python -m lab.simulators.main_site --port 5060

Environment: SIM_MAIN_SITE_API_KEY is the key of the feeds, SIM_CONTROL_KEY the key of the control API. PANEL_URL and
VPS_SYNC_API_KEY name the panel to call (set both or neither). With SIGN_IN_SECRET, the panel's, customers are led from
this site to its pages. SIM_PROXMOX lists the Proxmox simulators on which orders
create guests, as JSON [{"name": ..., "url": ..., "ca_file": ...}]; they have the same SIM_CONTROL_KEY.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvicorn
from pydantic import BaseModel, TypeAdapter, ValidationError

from lab.simulators.background import listen, uvicorn_config
from lab.simulators.control import ProxmoxControl
from lab.simulators.keys import MissingSettingError, require, require_key
from lab.simulators.main_site.app import create_app
from lab.simulators.main_site.guests import GuestHost
from lab.simulators.main_site.sign_in import PanelPages
from lab.simulators.main_site.site import MainSite
from lab.simulators.provisioning import ProxmoxGuests


class ProxmoxPlace(BaseModel):
    """Where a Proxmox simulator listens."""

    name: str
    url: str
    ca_file: Path


def guest_host(environment: Mapping[str, str], control_key: str) -> GuestHost | None:
    """The host of guests that SIM_PROXMOX describes, or None without it.

    Raises:
        MissingSettingError: it is not such a JSON list.
    """
    text = environment.get("SIM_PROXMOX", "")
    if not text:
        return None
    try:
        places = TypeAdapter(list[ProxmoxPlace]).validate_json(text)
    except ValidationError as error:
        raise MissingSettingError('SIM_PROXMOX is not JSON [{"name", "url", "ca_file"}, ...]') from error
    return ProxmoxGuests(
        {place.name: ProxmoxControl(place.url, control_key, ca_file=place.ca_file) for place in places}
    )


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serve until a signal. Returns 2 if a setting is missing."""
    parser = argparse.ArgumentParser(prog="python -m lab.simulators.main_site")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--extended", action="store_true", help="send order and guest keys with every call")
    parser.add_argument("--shape", choices=("flat", "nested"), default="flat", help="of the panel-api lists")
    parser.add_argument("--first-order-id", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        api_key = require_key(environment, "SIM_MAIN_SITE_API_KEY")
        control_key = require_key(environment, "SIM_CONTROL_KEY")
        calls_panel = "PANEL_URL" in environment or "VPS_SYNC_API_KEY" in environment
        pages = (
            PanelPages(require(environment, "PANEL_URL"), require_key(environment, "SIGN_IN_SECRET"))
            if environment.get("SIGN_IN_SECRET")
            else None
        )
        site = MainSite(
            panel_url=require(environment, "PANEL_URL") if calls_panel else None,
            sync_key=require_key(environment, "VPS_SYNC_API_KEY") if calls_panel else None,
            guests=guest_host(environment, control_key),
            extended=options.extended,
            shape=options.shape,
            first_order_id=options.first_order_id,
        )
    except MissingSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    app = create_app(site, api_key=api_key, control_key=control_key, panel_pages=pages)
    try:
        with listen(options.host, options.port) as listener:
            uvicorn.Server(uvicorn_config(app)).run(sockets=[listener])
    except KeyboardInterrupt:
        # Ctrl-C: uvicorn has already stopped in good order.
        return 0
    finally:
        site.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
