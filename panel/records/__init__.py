"""How a record is made and how it looks to callers, clients and operators."""
