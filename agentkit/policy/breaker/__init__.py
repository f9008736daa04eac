"""The circuit breaker: its policy, its states and its permits."""
