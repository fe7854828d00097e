"""Compare orders, guests and records; repair the records; say plainly what may not be repaired."""
