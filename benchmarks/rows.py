"""What every benchmark prints: four columns, as a line or a row of a table."""

import argparse


def parser_of(description: str) -> argparse.ArgumentParser:
    """A command line with `--markdown`, described by a module's first line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="print table rows")
    return parser


def print_row(row: tuple[str, str, str, str], *, markdown: bool) -> None:
    """Prints one row at once, so that a long benchmark shows its progress."""
    print("| " + " | ".join(row) + " |" if markdown else "  ".join(row), flush=True)
