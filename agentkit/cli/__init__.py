"""The command line: an outage to watch, what a response cache holds, and a check-up.

Loaded by `agentkit.__main__` alone. Data goes to stdout, everything else to stderr.
"""
