"""Adapters between agentkit and other frameworks, one a module."""
