"""What to do next, decided without doing anything: no I/O, no clock, no dice of its own."""
