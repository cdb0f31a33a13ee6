"""Sentences for the user of a command, beside its output."""

import typer


def tell(*lines: str) -> None:
    """Lines on the standard error stream; empty ones are left out."""
    for line in filter(None, lines):
        typer.echo(line, err=True)
