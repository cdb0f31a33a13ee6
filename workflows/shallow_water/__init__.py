"""Shallow water on the sphere: an ensemble, its surrogates, and the report."""
