"""What must be true after faults, and what was seen instead: the sentences of the proof."""
