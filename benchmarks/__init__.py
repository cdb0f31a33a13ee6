"""Measurements with their peers: `make bench` runs them all and writes RESULTS.md."""
