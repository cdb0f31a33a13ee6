"""`python -m workflows.hanford`: see `--help`."""

from workflows.hanford.command import application

if __name__ == "__main__":
    application()
