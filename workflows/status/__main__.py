"""`python -m workflows.status`: see `--help`."""

from workflows.status.command import application

if __name__ == "__main__":
    application()
