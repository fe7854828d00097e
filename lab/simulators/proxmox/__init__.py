"""Proxmox VE: fakepve behind a proxy that makes it answer, and fail, as a real cluster does.

Nothing is imported here, so that the verbs and their clients (`lab.simulators.proxmox.verbs`) work where
fakepve is not installed; only `lab.simulators.proxmox.server` and what serves a cluster need it.
"""
