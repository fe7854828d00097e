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
from api.operator_pages.inbox import inbox_page_routes
from api.operator_pages.reports import (
    coverage_routes,
    deleted_routes,
    drift_routes,
    money_routes,
    operation_routes,
)
from api.operator_pages.webhooks import webhook_routes
from api.operator_pages.what_if import past_delete_pages, what_if_pages

ROUTERS = tuple(
    module.router
    for module in (
        operator_sign_in_routes,
        overview_routes,
        held_routes,
        finding_routes,
        inbox_page_routes,
        one_vps_routes,
        run_routes,
        source_routes,
        dead_call_routes,
        lever_routes,
        webhook_routes,
        audit_page_routes,
        coverage_routes,
        drift_routes,
        money_routes,
        deleted_routes,
        operation_routes,
        past_delete_pages,
        what_if_pages,
    )
)
