"""Stand-ins for the systems around the panel: the hoster's main site and Proxmox VE.

Only the demo, chaos and the tests use them. Each one runs in its own process (`python -m lab.simulators.main_site`,
`python -m lab.simulators.proxmox`) or inside a test as a context manager (`lab.simulators.main_site.MainSiteServer`,
`lab.simulators.proxmox.server.ProxmoxServer`). Both ways offer the same verbs (`MainSiteVerbs`, `ProxmoxVerbs`).
Another process uses them through `lab.simulators.control`.
"""
