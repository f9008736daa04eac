"""Runs that survive their process: the journal of their steps, and where it is kept."""
