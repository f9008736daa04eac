"""In-process counters, and spans and metrics through the OpenTelemetry API."""
