"""Measurements of agentkit and its peers, made in the same run."""
