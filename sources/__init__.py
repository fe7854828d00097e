"""Adapters: what the main site and Proxmox VE say, as values of ``reconcile.state``."""
