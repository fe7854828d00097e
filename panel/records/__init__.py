"""How calls make a record, and what the main site, clients and operators see of it."""
