"""Proxmox VE clusters behind ``reconcile.ports.GuestSource``, read only."""
