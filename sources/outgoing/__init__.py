"""Every HTTP request that the panel makes: one client, with its bounds, deadline, trust and proxy."""
