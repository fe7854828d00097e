"""``panel-sync webhooks``."""
