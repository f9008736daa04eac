"""From what a user registers to an `Endpoint` the engine can drive. One integration, one module."""
