"""Physics-informed GAN: the joint law of fields learned from their sensors alone.

Generators of random inputs, the flow equations as a layer, critics on sensor snapshots.
Form after arXiv:1811.02033; one generator for the site and critics for overlapping
subdomains are inspired by arXiv:1910.13444, sizes and settings are this project's own.
"""
