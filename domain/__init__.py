"""The values that all other packages work with. Standard library only.

Three views of every VPS: the *order* (what the main site sold), the *guest* (what exists on Proxmox) and the *record*
(what the client sees in this panel).
"""
