"""The command line: ask models, watch an outage, see what is installed, configured and kept.

Loaded by `agentkit.__main__` alone. Data goes to stdout, everything else to stderr.
"""
