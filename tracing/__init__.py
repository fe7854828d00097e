"""Traces: one line of spans from the main site's call to the written record. OpenTelemetry is imported only here, and
its SDK only once tracing is switched on."""
