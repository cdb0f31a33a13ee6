"""A module that the driver can import and worker processes cannot."""

import os

from workflows.engine.files.artefacts import Manifest

if "PARSL_WORKER_RANK" in os.environ:
    raise ImportError("libphysics.so.7 must be on the library path; got nothing")


def compute(record, folder, log):
    return Manifest()
