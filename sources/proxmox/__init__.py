"""Proxmox VE clusters, each as a ``domain.source_protocols.GuestSource``. Read only."""
