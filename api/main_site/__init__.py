"""The main site's side of the API: its keys and its sync calls."""
