"""The command line: one module for each command, `app` for all of them.

Only `agentkit.__main__` imports it. Results go to stdout, everything else to stderr.
"""
