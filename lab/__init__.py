"""Never in production: simulators of the main site and of Proxmox, the demo, and faults on purpose."""
