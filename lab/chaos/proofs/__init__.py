"""What must be true after faults, and what was seen: the sentences of the proof."""
