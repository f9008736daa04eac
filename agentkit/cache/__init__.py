"""The response cache: keys, the memory tier, the disk tier, and what the engine talks to."""
