"""Steady flow under the Hanford Site: prior, ensemble, surrogate, report."""
