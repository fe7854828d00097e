"""Proxmox VE: fakepve behind a proxy, so that it answers and fails as a real cluster does.

Nothing is imported here, so the verbs and their clients (`lab.simulators.proxmox.verbs`) work without fakepve. Only the
modules that serve a cluster need it.
"""
