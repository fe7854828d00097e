"""What the sources showed, as it is remembered, and what of it a run looks at."""
