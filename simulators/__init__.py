"""Physics as functions on batched torch tensors.

Leading dimensions are batch, device follows the input, gradients flow. Nothing here
knows a network, a rank, a store or a scheduler.
"""

import importlib
import sys
from pathlib import Path

# no data.py in the folder of a user's program stands for our package: see the engine
sys.path.insert(0, str(Path(__file__).parents[1]))
importlib.import_module("data")
del sys.path[0]
