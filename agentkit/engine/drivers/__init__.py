"""The two drivers, and all that touches threads, loops and time."""
