"""`python -m benchmarks` does what `python benchmarks/run.py` does."""

from benchmarks.run import main

main()
