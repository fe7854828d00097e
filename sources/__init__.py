"""Adapters: they turn what the main site and Proxmox VE say into values of ``domain``."""
