"""Structured output: JSON schemas, validation and repair, partial instances, tool parameters."""
