"""One process of a fleet for each library, all with the same work (see `harness`)."""
