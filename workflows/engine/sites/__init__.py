"""Machines: site files, their clusters, their batch scripts."""
