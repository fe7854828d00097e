"""What every route shares: framing, limits, bodies, errors. Knows no caller."""
