"""Celery: the application, its tasks, and the sources made from the settings. Thin."""
