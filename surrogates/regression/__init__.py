"""Networks that map a log-transmissivity field to its steady head field."""
