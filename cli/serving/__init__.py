"""Commands that start something: the panel or one of its parts, the demo, chaos."""
