"""Providers: one module or package for each vendor, and what they share."""
