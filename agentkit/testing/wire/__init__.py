"""A local server that speaks the wire formats of the providers, and its faults."""
