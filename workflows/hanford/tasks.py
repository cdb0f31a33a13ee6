"""The tasks of the Hanford workflow: steps with their roles and versions.

Raise a version whenever the step computes something else; finished work of an earlier
version is then not reused.
"""

from workflows.engine.driving.tasks import Task
from workflows.hanford import generative, generative_evaluation, learning, steps

fit_prior = Task(steps.fit_prior, role="sim", version="1")
simulate_block = Task(steps.simulate_block, role="sim", version="1")
summarise = Task(steps.summarise, role="io", version="1")
fit_baseline = Task(learning.fit_baseline, role="train", version="1")
train_network = Task(learning.train_network, role="train", version="2")
evaluate = Task(learning.evaluate, role="sim", version="1")
train_generator = Task(generative.train_generator, role="train", version="2")
invert = Task(generative.invert, role="sim", version="1")
evaluate_generator = Task(
    generative_evaluation.evaluate_generator, role="sim", version="1"
)
