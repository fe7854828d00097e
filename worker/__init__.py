"""Celery: the application, its tasks and the wiring of settings to sources. Thin."""
