"""Statistics of a VPS: what was measured of its machine, and what of it may be shown to its customer. Pure."""
