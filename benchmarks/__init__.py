"""Benchmarks for asv over the package's history; docs/benchmarks.md says how to run them."""
