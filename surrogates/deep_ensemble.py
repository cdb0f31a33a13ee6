"""Equal networks from other initial weights: their scatter warns of ignorance.

All networks are trained at once as one batched matrix product. Where they disagree, the
data do not determine the answer. Source: Lakshminarayanan et al. 2017, arXiv:1612.01474
(here with squared error and without adversarial examples).
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from surrogates.distributed.collectives import Collectives
from surrogates.training import Learner, Losses, fit, update

WEIGHT_DECAY = 1e-4


class DeepEnsemble(nn.Module):
    """Networks of two hidden layers, from inputs (n, d) to outputs (networks, n, o).

    Args:
        n_networks: in the ensemble.
        n_inputs: d.
        n_outputs: o.
        width: of the hidden layers.
        seed: of the initial weights.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        n_networks: int,
        n_inputs: int,
        n_outputs: int,
        width: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # torch's own generator is shared by the threads of a process
        generator = torch.Generator().manual_seed(seed)
        sizes = [n_inputs, width, width, n_outputs]
        self.weights = nn.ParameterList(
            torch.randn(n_networks, a, b, generator=generator) / math.sqrt(a)
            for a, b in pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(n_networks, 1, b) for b in sizes[1:])
        self.register_buffer("centre", torch.zeros(n_outputs))
        self.register_buffer("scale", torch.ones(n_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """What each network predicts."""
        return self._standardised(inputs) * self.scale + self.centre

    def mean(self, inputs: Tensor) -> Tensor:
        """The ensemble's prediction (n, o)."""
        mean: Tensor = self(inputs).mean(0)
        return mean

    def fit(
        self, inputs: Tensor, outputs: Tensor, n_steps: int, learning_rate: float = 3e-3
    ) -> None:
        """Minimises the squared error of every network, full batches, decaying rate.

        Args:
            inputs: (n, d) float32.
            outputs: (n, o) float32, no output constant.
            n_steps: of the optimiser.
            learning_rate: at the start.

        Raises:
            ValueError: an output that does not vary.
            DivergenceError: the loss became non-finite.
        """
        spread = outputs.std(0)
        if not (spread > 0).all():
            constant = (spread <= 0).nonzero().flatten().tolist()
            raise ValueError(
                f"outputs must vary over the members; got constant outputs {constant}."
            )
        self.centre.copy_(outputs.mean(0))
        self.scale.copy_(spread)
        target = (outputs - self.centre) / self.scale
        optimiser = torch.optim.AdamW(
            self.parameters(), learning_rate, weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)

        def step(_: int, collectives: Collectives) -> Losses:
            # a mean over networks would share one learning rate among them: a sum
            error = (self._standardised(inputs) - target).square().mean((1, 2)).sum()
            loss = update(optimiser, error, self.parameters(), collectives)
            schedule.step()
            return {"loss": loss}

        advice = f"Lower the learning rate (now {learning_rate:g})."
        learner = Learner(
            label="deep ensemble",
            steps=n_steps,
            epoch_steps=n_steps,
            parts={},
            step=step,
            diverged=lambda x, _: f"the loss must stay finite; got {x}. {advice}",
        )
        fit(learner)  # a training of seconds: it keeps no checkpoint

    def _standardised(self, inputs: Tensor) -> Tensor:
        layer = inputs
        for depth, (weight, bias) in enumerate(
            zip(self.weights, self.biases, strict=True)
        ):
            layer = layer @ weight + bias
            if depth < len(self.weights) - 1:
                layer = silu(layer)
        return layer
