"""``/api/ops``: reports, the service level, and files to download."""
