"""Rate limits, keys and concurrency: one queue of callers in front of each model."""
