"""The API for the main site: its keys and its sync calls."""
