"""`python -m workflows.shallow_water`: see `--help`."""

from workflows.shallow_water.command import application

if __name__ == "__main__":
    application()
