"""The HTTP edge: parse, call one function, answer. Knows the panel's store; never the workers."""
