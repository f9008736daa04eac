"""The agent: its loop, its tools and memory, its recorded runs, and its life cycle."""
