"""Every page of operators."""

from __future__ import annotations

from api.operator_pages import (
    audit_page_routes,
    dead_call_routes,
    finding_routes,
    held_routes,
    lever_routes,
    one_vps_routes,
    operator_sign_in_routes,
    overview_routes,
    run_routes,
    source_routes,
)

ROUTERS = tuple(
    module.router
    for module in (
        operator_sign_in_routes,
        overview_routes,
        held_routes,
        finding_routes,
        one_vps_routes,
        run_routes,
        source_routes,
        dead_call_routes,
        lever_routes,
        audit_page_routes,
    )
)
