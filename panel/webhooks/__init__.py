"""Events for the main site as they are stored: noted with each change, taken by a worker, delivered or given up."""
