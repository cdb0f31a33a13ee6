"""What workflows share: site, run folder, journal, tasks, progress, report.

A workflow imports the modules by name; importing this package loads nothing of them, so
that steps, which run on ranks and workers, stay free of the scheduler.
"""

import importlib
import sys
from pathlib import Path

# Python looks into the folder of a program first: a user's own data.py there would
# stand for our package, unless that is known before
sys.path.insert(0, str(Path(__file__).parents[2]))
for _package in ("data", "simulators", "surrogates"):
    importlib.import_module(_package)
del sys.path[0]
