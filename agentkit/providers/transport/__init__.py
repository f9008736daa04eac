"""Transports: they move an encoded request to a provider and its response back."""
