"""What dashboards and agents read: in-process counters, and OpenTelemetry through its API."""
