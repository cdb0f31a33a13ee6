"""What workflows share: site, run folder, journal, tasks, progress, report.

A workflow imports the modules by name; importing this package loads nothing else, so
that steps, which run on ranks and workers, stay free of the scheduler.
"""
