"""What every route shares: framing, limits, bodies, errors. It knows no caller."""
