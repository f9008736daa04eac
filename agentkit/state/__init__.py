"""State that the processes of a fleet share: one set of functions, in memory or in a server."""
