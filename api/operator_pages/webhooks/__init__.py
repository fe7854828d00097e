"""The page about the events for the main site."""
