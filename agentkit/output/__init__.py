"""Answers of a type: JSON schemas, validation and repair, partial instances, tool parameters."""
