"""Every HTTP request of the panel: one client with its bounds, deadline, trust and proxy."""
