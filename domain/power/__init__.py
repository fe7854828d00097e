"""Power actions: their words, whether one may be done, and what an answer of Proxmox means. Pure."""
