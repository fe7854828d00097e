"""Which order, guest and record belong together. Pure."""
