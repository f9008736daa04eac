"""One module a contender, each run by the interpreter of its own environment."""
