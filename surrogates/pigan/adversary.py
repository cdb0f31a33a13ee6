"""What a generator is up against at one group of sensors: critics and moments.

The critics see single members. The moment term is half the squared distance of means,
variances and covariances of standardised readings, mean over n sensors,

    |m_g - m|²/2n + |diag(C_g - C)|²/2n + |C_g - C|²_F/2n²,

where m_g and C_g are running moments of earlier generated members. Its gradient is that
of the distance between the laws; computed from one batch alone it would be that of the
batch's scatter, which generating too little spread makes smaller.
"""

import torch
from torch import Tensor, nn

from surrogates.generative_metrics import effective_rank
from surrogates.pigan.critics import CriticStack
from surrogates.pigan.sensors import Fields, Snapshots, subdomains

POOL_BATCHES = 16  # of generated readings, from which critics learn
MEMORY = 0.95  # of the running moments, per generator step


class Adversary(nn.Module):
    """Critics of one group for the whole site and per subdomain, and moments.

    Args:
        snapshots: what the group's sensors read.
        locations: of the sensors (sensors, d).
        n_subdomains: overlapping parts of the site with a critic each, besides the
            critic of the whole.
        width: of the critics' hidden layers.
        batch_size: members per step.
        seed: of the subdomains.
    """

    real: Tensor
    centre: Tensor
    spread: Tensor
    covariance: Tensor
    pool: Tensor
    running_mean: Tensor
    running_covariance: Tensor

    def __init__(
        self,
        snapshots: Snapshots,
        locations: Tensor,
        *,
        n_subdomains: int,
        width: int,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.group, self.scale = snapshots.group, snapshots.scale
        n = snapshots.group.n_sensors
        real = self.scale.squash(snapshots.readings).float()
        self.register_buffer("real", real, persistent=False)
        self.register_buffer("centre", real.mean(0), persistent=False)
        self.register_buffer("spread", real.std(0), persistent=False)
        self.rank = effective_rank(real)
        y = (real - self.centre) / self.spread
        # unbiased: members of the snapshots' law, seen from their mean, have more
        self.register_buffer("covariance", torch.cov(y.mT), persistent=False)
        self.register_buffer("pool", torch.zeros(POOL_BATCHES * batch_size, n))
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_covariance", torch.zeros(n, n))
        stacks = [CriticStack([torch.arange(n)], n, width)]
        if n_subdomains > 1:
            parts = subdomains(locations, n_subdomains, seed)
            stacks.append(CriticStack(parts, n, width))
        self.stacks = stacks
        self.critics = nn.ModuleList(stacks)  # that their weights are found
        self.n_critics = 1 + (n_subdomains if n_subdomains > 1 else 0)

    def read(self, fields: Fields) -> Tensor:
        """Squashed readings (members, sensors) of generated fields."""
        return self.scale.squash(self.group.read(fields))

    def remember(self, readings: Tensor, step: int) -> None:
        """Takes generated readings (batch, sensors) into the pool and the moments."""
        readings = readings.detach()
        batch = len(readings)
        slot = step % POOL_BATCHES
        if step == 0:
            self.pool.copy_(readings.repeat(POOL_BATCHES, 1))
        self.pool[slot * batch : (slot + 1) * batch] = readings
        # weights 1, 1/2, 1/3, ... at first: a plain mean until the memory is full
        weight = max(1 - MEMORY, 1 / (step + 1))
        y = (readings - self.centre) / self.spread
        self.running_mean.lerp_(y.mean(0), weight)
        self.running_covariance.lerp_(y.mT @ y / batch, weight)

    def critic_loss(
        self, batch: int, penalty: float, generator: torch.Generator
    ) -> Tensor:
        """What all critics of the group minimise together, a scalar."""
        real = self.real[torch.randint(len(self.real), (batch,), generator=generator)]
        fake = self.pool[torch.randint(len(self.pool), (batch,), generator=generator)]
        mix = torch.rand(batch, 1, generator=generator)
        losses = [stack.loss(real, fake, mix, penalty).sum() for stack in self.stacks]
        return torch.stack(losses).sum()

    def judge(self, readings: Tensor) -> Tensor:
        """Adversarial part of the generator's loss: minus the critics' mean score."""
        scores = [stack.score(stack.gather(readings)) for stack in self.stacks]
        return -torch.cat(scores).mean()

    def moment_loss(self, readings: Tensor) -> Tensor:
        """Has the gradient of the distance of mean, variances and covariance."""
        y = (readings - self.centre) / self.spread
        excess = self.running_covariance - self.covariance
        mean = y.mean(0) @ self.running_mean
        variances = y.square().mean(0) @ excess.diagonal()
        covariance = ((y @ excess) * y).sum(-1).mean()
        n = y.shape[1]
        return (mean + variances + covariance / n) / n

    def moment_distance(self) -> float:
        """Root of twice the distance of mean, variances and covariance."""
        n = len(self.centre)
        excess = self.running_covariance - self.covariance
        squares = (
            self.running_mean.square().sum() / n
            + excess.diagonal().square().sum() / n
            + excess.square().sum() / n**2
        )
        return float(squares.sqrt())
