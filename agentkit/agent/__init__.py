"""The agent: a life cycle around tasks, with their counters, their errors and their spans."""
