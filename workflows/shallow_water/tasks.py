"""The tasks of the shallow-water workflow: steps with their roles and versions.

Raise a version whenever the step computes something else; finished work of an earlier
version is then not reused.
"""

from workflows.engine.driving.tasks import Task
from workflows.shallow_water import evaluation, learning, steps

simulate_block = Task(steps.simulate_block, role="sim", version="1")
summarise = Task(steps.summarise, role="io", version="1")
tune_diffusion = Task(steps.tune_diffusion, role="sim", version="1")
train_network = Task(learning.train_network, role="train", version="3")
fit_correction = Task(learning.fit_correction, role="sim", version="1")
select_members = Task(learning.select_members, role="sim", version="3")
evaluate = Task(evaluation.evaluate, role="sim", version="3")
