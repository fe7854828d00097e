"""What the sources showed, stored, and which part of it a run looks at."""
