"""A live or dead run, read from its files: `python -m workflows.status RUN`."""
