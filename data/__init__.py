"""Where fields live: ensemble stores, readers of published data sets, statistics.

Plain numpy on the outside, standard Zarr 3 on disk. Nothing here knows tensors,
schedulers or physics.
"""
