"""The HTTP edge: parse, call one function, answer. It knows the panel's store, never the workers."""
