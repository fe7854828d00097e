"""What operators can do: one function for each. Commands and requests only parse, call it and show its answer."""
