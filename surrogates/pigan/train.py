"""Training of a physics-informed GAN on sensor snapshots.

Each step: the critics learn a few times from a pool of generated readings, then the
generator takes one step against critics and moments. The product are the running
averages of the generator's weights. A checkpoint is written after every epoch, and a
killed training goes on from it and ends in the same bits. Training stops, with the last
good checkpoint kept, where the loss is not finite or the generated readings lose their
rank.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from simulators.subsurface import FlowSolveError
from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.generative_metrics import effective_rank, robust_spread
from surrogates.pigan.adversary import Adversary
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY, scaled_residual
from surrogates.pigan.model import Pigan
from surrogates.pigan.sensors import SensorData, Snapshots
from surrogates.training import (
    DivergenceError,
    Log,
    StoppedTrainingError,
    resume_training,
    save_training,
    seconds_left,
)

BETAS = (0.0, 0.9)
N_SHOWN = 250  # generated members whose statistics a training curve shows
WARM_UP = 0.3  # share of the steps over which the residual's weight grows to its value


class ModeCollapseError(StoppedTrainingError):
    """The generated readings have lost the rank of the snapshots'."""


@dataclass(frozen=True, slots=True)
class GanSettings:
    """How long and how to train.

    Attributes:
        steps: generator steps.
        seed: of latent variables, critics and batches.
        batch_size: members per step of generator and critics, even.
        learning_rate: of both; falls linearly to zero over the second half.
        critic_steps: per generator step.
        critic_width: of the critics' two hidden layers.
        n_subdomains: overlapping parts of the site that have a critic of their own.
        gradient_penalty: weight of (|∇f| - 1)² of the critics.
        adversarial_weight: of the critics in the generator's loss; 0 trains none.
        moment_weight: of mean and covariance in the generator's loss.
        residual_weight: of the mean square scaled residual [m⁻²], for heads by a
            network; grows from zero over the first steps.
        averaging: decay of the running average of the generator's weights. Averages
            over many steps of a fast generator would lose spread: its own noise is
            part of what matched the snapshots.
        epoch_steps: steps between checkpoints.
        least_rank_share: of the snapshots' effective rank; below, training stops.
    """

    steps: int
    seed: int
    batch_size: int = 64
    learning_rate: float = 3e-4
    critic_steps: int = 2
    critic_width: int = 64
    n_subdomains: int = 8
    gradient_penalty: float = 5.0
    adversarial_weight: float = 1.0
    moment_weight: float = 60.0
    residual_weight: float = 0.0
    averaging: float = 0.99
    epoch_steps: int = 50
    least_rank_share: float = 0.4


def train_pigan(
    model: Pigan,
    data: SensorData,
    settings: GanSettings,
    checkpoint: Path,
    data_digest: str,
    log: Log,
) -> Pigan:
    """Trains `model` in place, from `checkpoint` where there is one.

    Args:
        model: freshly built with the settings' seed, on the CPU.
        data: what the sensors read; no two groups share instants.
        settings: length, weights, learning rate.
        checkpoint: written after every epoch.
        data_digest: identifies the snapshots; a checkpoint of others is refused.
        log: receives one record per epoch.

    Returns:
        The generator with averaged weights.

    Raises:
        ValueError: an odd batch size; a checkpoint of other snapshots or settings.
        DivergenceError: loss or fields became non-finite; the checkpoint stays.
        ModeCollapseError: the generated readings lost their rank; the checkpoint stays.
    """
    if settings.batch_size % 2:
        raise ValueError(
            "batch_size must be even, for pairs of latent variables of opposite sign; "
            f"got {settings.batch_size}."
        )
    training = _Training(model, data, settings)
    identity = {"data_digest": data_digest, "settings": asdict(settings)}
    generator = torch.Generator().manual_seed(settings.seed)
    first = resume_training(checkpoint, identity, training.parts, generator, log)
    n_epochs = -(-settings.steps // settings.epoch_steps)
    began = time.monotonic()
    for epoch in range(first, n_epochs):
        losses = training.run_epoch(epoch, generator)
        facts = training.diagnose(data.held_out, epoch)
        save_training(checkpoint, identity, training.parts, generator, epoch + 1)
        log(
            {
                "event": "epoch",
                "training": f"PI-GAN on {len(data.training[0].readings)} snapshots",
                "status": f"rank {facts['rank_share']:.2f} of the snapshots', moment "
                f"distance {facts['moment_distance']:.3f}",
                "epoch": epoch + 1,
                "epochs": n_epochs,
                "seconds_left": seconds_left(
                    began, epoch + 1 - first, n_epochs - first
                ),
                "curve": "moment_distance",
                **losses,
                **facts,
            }
        )
    return training.averaged_model


def last_good(model: Pigan, checkpoint: Path) -> Pigan:
    """The averaged generator of a training that stopped, from its checkpoint.

    Args:
        model: of the same structure.
        checkpoint: what `train_pigan` wrote.

    Raises:
        FileNotFoundError: training stopped before the first checkpoint.
    """
    averaged = AveragedModel(model)
    averaged.load_state_dict(load_checkpoint(checkpoint)["states"]["averaged"])
    return cast("Pigan", averaged.module)


class _Training:
    """Generator, critics, their optimisers and averages: the state of a training."""

    def __init__(
        self,
        model: Pigan,
        data: SensorData,
        settings: GanSettings,
    ) -> None:
        self.model, self.settings = model, settings
        torch.manual_seed(settings.seed)
        self.adversaries = [
            Adversary(
                part,
                part.group.locations(data.points),
                n_subdomains=settings.n_subdomains,
                width=settings.critic_width,
                batch_size=settings.batch_size,
                seed=settings.seed,
            )
            for part in data.training
        ]
        adversaries = nn.ModuleList(self.adversaries)
        average = get_ema_multi_avg_fn(settings.averaging)  # type: ignore[no-untyped-call]  # torch
        self.averaged = AveragedModel(model, multi_avg_fn=average)
        rate = settings.learning_rate
        self.generator_optimiser = torch.optim.Adam(model.parameters(), rate, BETAS)
        self.critic_optimiser = torch.optim.Adam(adversaries.parameters(), rate, BETAS)
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate_share)
            for optimiser in (self.generator_optimiser, self.critic_optimiser)
        ]
        self.parts = {
            "model": model,
            "averaged": self.averaged,
            "adversaries": adversaries,
            "generator_optimiser": self.generator_optimiser,
            "critic_optimiser": self.critic_optimiser,
            "generator_schedule": self.schedules[0],
            "critic_schedule": self.schedules[1],
        }

    @property
    def averaged_model(self) -> Pigan:
        """The generator with averaged weights."""
        return cast("Pigan", self.averaged.module)

    def run_epoch(self, epoch: int, generator: torch.Generator) -> dict[str, float]:
        """The steps of one epoch; mean losses."""
        settings, sums = self.settings, dict[str, float]()
        first = epoch * settings.epoch_steps
        last = min(first + settings.epoch_steps, settings.steps)
        if first == 0:
            self._fill_memory(generator)
        for step in range(first, last):
            critic_loss = self._critic_steps(generator)
            losses = {"critic_loss": critic_loss, **self._step(step, generator)}
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / (last - first)
        return sums

    def diagnose(self, held_out: Sequence[Snapshots], epoch: int) -> dict[str, float]:
        """Statistics of the averaged generator's readings beside held-out ones.

        Raises:
            ModeCollapseError: the effective rank fell below the least share.
        """
        generator = torch.Generator().manual_seed(self.settings.seed)
        gap = None
        try:
            fields = self.averaged_model.sample(N_SHOWN, generator)
            if self.model.network is not None:
                gap = self._inconsistency(fields)
        except FlowSolveError as error:
            cause = _divergence("generated fields", epoch)
            raise DivergenceError(f"{cause} {error}") from error
        shares, facts = [], dict[str, float]()
        for adversary, part in zip(self.adversaries, held_out, strict=True):
            # by the snapshots' scale: what is held out decides nothing
            squash, generated = adversary.scale.squash, part.group.read(fields)
            if not torch.isfinite(generated).all():
                raise DivergenceError(_divergence("generated readings", epoch))
            # both without bias, whatever their number of members
            shares.append(effective_rank(squash(generated)) / adversary.rank)
            facts |= _spread_errors(part, generated)
        facts["rank_share"] = min(shares)
        facts["moment_distance"] = max(a.moment_distance() for a in self.adversaries)
        if gap is not None:
            facts["consistency"] = gap
        if facts["rank_share"] < self.settings.least_rank_share:
            raise ModeCollapseError(
                "the effective rank of generated readings must stay above "
                f"{self.settings.least_rank_share:.2g} of the snapshots'; got "
                f"{facts['rank_share']:.2g} in epoch {epoch + 1}. Use more modes, a "
                f"larger moment weight or a lower learning rate; {_kept(epoch)}."
            )
        return facts

    def _inconsistency(self, fields: dict[str, Tensor]) -> float:
        """Rms of head - solve(Y) [m]: what a network head misses of the equations."""
        exact = self.model.flow(fields)
        return float((fields[HEAD] - exact).square().mean().sqrt())

    def _fill_memory(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            fields = self._generate(0, generator)
        for adversary in self.adversaries:
            adversary.remember(adversary.read(fields), 0)

    def _critic_steps(self, generator: torch.Generator) -> float:
        settings, loss = self.settings, torch.zeros(())
        if not settings.adversarial_weight:
            return 0.0
        for _ in range(settings.critic_steps):
            loss = torch.stack(
                [
                    adversary.critic_loss(
                        settings.batch_size, settings.gradient_penalty, generator
                    )
                    for adversary in self.adversaries
                ]
            ).sum()
            self.critic_optimiser.zero_grad()
            torch.autograd.backward(loss)
            self.critic_optimiser.step()
        self.schedules[1].step()
        return loss.item() / sum(a.n_critics for a in self.adversaries)

    def _step(self, step: int, generator: torch.Generator) -> dict[str, float]:
        """One generator step; its losses."""
        settings = self.settings
        fields = self._generate(step // settings.epoch_steps, generator)
        loss, moments = torch.zeros(()), torch.zeros(())
        all_readings = [adversary.read(fields) for adversary in self.adversaries]
        for adversary, readings in zip(self.adversaries, all_readings, strict=True):
            if settings.adversarial_weight:
                loss = loss + settings.adversarial_weight * adversary.judge(readings)
            moments = moments + adversary.moment_loss(readings)
        loss = loss + settings.moment_weight * moments
        if settings.residual_weight:
            weight = settings.residual_weight * min(
                1.0, step / (WARM_UP * settings.steps)
            )
            loss = loss + weight * self._residual_loss(fields)
        self.generator_optimiser.zero_grad()
        torch.autograd.backward(loss)
        if not math.isfinite(loss.item()):
            epoch = step // settings.epoch_steps
            raise DivergenceError(_divergence("the loss", epoch))
        self.generator_optimiser.step()
        for adversary, readings in zip(self.adversaries, all_readings, strict=True):
            adversary.remember(readings, step + 1)
        self.averaged.update_parameters(self.model)
        self.schedules[0].step()
        return {"generator_loss": loss.item(), "moment_loss": moments.item()}

    def _residual_loss(self, fields: dict[str, Tensor]) -> Tensor:
        flow = self.model.flow
        scaled = scaled_residual(
            flow.mesh, flow.forcing, fields[LOG_TRANSMISSIVITY], fields[HEAD]
        )
        return scaled.square().mean().float()

    def _generate(self, epoch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The fields of one batch of latent variables."""
        try:
            fields: dict[str, Tensor] = self.model(self._latent(generator))
        except FlowSolveError as error:
            cause = _divergence("generated fields", epoch)
            raise DivergenceError(f"{cause} {error}") from error
        return fields

    def _latent(self, generator: torch.Generator) -> Tensor:
        size = self.settings.batch_size // 2, self.model.n_latent
        z = torch.randn(size, generator=generator)
        # pairs of opposite sign: the mean of what is linear in z is free of noise
        return torch.cat([z, -z])

    def _rate_share(self, step: int) -> float:
        """Constant over the first half of the steps, then linear to zero."""
        return min(1.0, 2 * (1 - step / self.settings.steps))


def _spread_errors(held_out: Snapshots, generated: Tensor) -> dict[str, float]:
    """Relative error of the robust spread at the sensors of each field."""
    errors = {}
    for name in held_out.group.cells:
        columns = held_out.group.columns(name)
        real = robust_spread(held_out.readings[:, columns])
        gap = robust_spread(generated[:, columns]) - real
        errors[f"{name}_spread_error"] = float(gap.norm() / real.norm())
    return errors


def _divergence(what: str, epoch: int) -> str:
    return (
        f"{what} must stay finite; that ended in epoch {epoch + 1}. Lower the learning "
        f"rate; {_kept(epoch)}."
    )


def _kept(epoch: int) -> str:
    if epoch == 0:
        return "there is no checkpoint yet"
    return f"the last good checkpoint, after {epoch} epochs, is kept"
