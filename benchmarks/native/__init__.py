"""The native transport beside the vendor's SDK: ``python -m benchmarks.native``."""
