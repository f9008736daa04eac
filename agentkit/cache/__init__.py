"""The response cache: request keys, the memory tier, the disk tier, and the cache over both."""
