"""The command line of every workflow: options, settings, endings."""
