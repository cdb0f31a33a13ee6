"""Training of a physics-informed GAN on sensor snapshots.

Each step: the critics learn a few times from a pool of generated readings, then the
generator takes one step against critics and moments. The product are the running
averages of the generator's weights. A checkpoint is written after every epoch, and a
killed training goes on from it and ends in the same bits. Training stops, with the last
good checkpoint kept, where the loss is not finite or the generated readings lose their
rank.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from simulators.subsurface import FlowSolveError
from surrogates.distributed.checkpoint import load_checkpoint
from surrogates.distributed.collectives import Collectives
from surrogates.generative_metrics import effective_rank, robust_spread
from surrogates.pigan.adversary import Adversary
from surrogates.pigan.heads import HEAD, LOG_TRANSMISSIVITY, scaled_residual
from surrogates.pigan.model import Pigan
from surrogates.pigan.sensors import SensorData, Snapshots
from surrogates.training import (
    DivergenceError,
    Learner,
    Log,
    Losses,
    StoppedTrainingError,
    fit,
    update,
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
    learner = Learner(
        label=f"PI-GAN on {len(data.training[0].readings)} snapshots",
        steps=settings.steps,
        epoch_steps=settings.epoch_steps,
        parts=training.parts,
        generator=training.generator,
        step=training.step,
        diverged=lambda _, epoch: _stop("the loss must stay finite; that ended", epoch),
        evaluate=training.evaluate,
    )
    identity = {"data_digest": data_digest, "settings": asdict(settings)}
    fit(learner, checkpoint, identity, log)
    return training.product


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

    def __init__(self, model: Pigan, data: SensorData, settings: GanSettings) -> None:
        self.model, self.settings, self.held_out = model, settings, data.held_out
        self.generator = torch.Generator().manual_seed(settings.seed)
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
        self.critics = nn.ModuleList(self.adversaries)
        average = get_ema_multi_avg_fn(settings.averaging)  # type: ignore[no-untyped-call]  # torch
        self.averaged = AveragedModel(model, multi_avg_fn=average)
        self.product = cast("Pigan", self.averaged.module)
        rate = settings.learning_rate
        self.generator_optimiser = torch.optim.Adam(model.parameters(), rate, BETAS)
        self.critic_optimiser = torch.optim.Adam(self.critics.parameters(), rate, BETAS)
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate_share)
            for optimiser in (self.generator_optimiser, self.critic_optimiser)
        ]
        self.parts = {
            "model": model,
            "averaged": self.averaged,
            "adversaries": self.critics,
            "generator_optimiser": self.generator_optimiser,
            "critic_optimiser": self.critic_optimiser,
            "generator_schedule": self.schedules[0],
            "critic_schedule": self.schedules[1],
        }

    def step(self, number: int, collectives: Collectives) -> Losses:
        """The critics' updates and one of the generator; their losses."""
        if number == 0:
            with torch.no_grad():
                self._remember(self._generate(0)[1], 0)
        critic_loss = self._update_critics(collectives)
        losses = self._update_generator(number, collectives)
        return {**losses, "critic_loss": critic_loss}

    def evaluate(self, losses: Sequence[Losses], epoch: int) -> Mapping[str, object]:
        """Mean losses and statistics of the averaged generator."""
        facts, means = self._diagnose(epoch), dict[str, float]()
        for step in losses:
            for name, value in step.items():
                means[name] = means.get(name, 0.0) + value / len(losses)
        status = (
            f"rank {facts['rank_share']:.2f} of the snapshots', moment "
            f"distance {facts['moment_distance']:.3f}"
        )
        return {"status": status, "curve": "moment_distance", **means, **facts}

    def _diagnose(self, epoch: int) -> dict[str, float]:
        """Statistics of the averaged generator's readings beside held-out ones.

        Raises:
            DivergenceError: fields or readings are not finite.
            ModeCollapseError: the effective rank fell below the least share.
        """
        generator = torch.Generator().manual_seed(self.settings.seed)
        shares, facts = [], dict[str, float]()
        with _finite_fields(epoch):
            fields = self.product.sample(N_SHOWN, generator)
            if self.model.network is not None:  # its head may miss the equations
                gap = fields[HEAD] - self.model.flow(fields)
                facts["consistency"] = float(gap.square().mean().sqrt())  # m
        for adversary, part in zip(self.adversaries, self.held_out, strict=True):
            # by the snapshots' scale: what is held out decides nothing
            squash, generated = adversary.scale.squash, part.group.read(fields)
            if not torch.isfinite(generated).all():
                finding = "generated readings must stay finite; that ended"
                raise DivergenceError(_stop(finding, epoch))
            # both without bias, whatever their number of members
            shares.append(effective_rank(squash(generated)) / adversary.rank)
            facts |= _spread_errors(part, generated)
        facts["rank_share"] = min(shares)
        facts["moment_distance"] = max(a.moment_distance() for a in self.adversaries)
        if facts["rank_share"] < self.settings.least_rank_share:
            finding = (
                "the effective rank of generated readings must stay above "
                f"{self.settings.least_rank_share:.2g} of the snapshots'; got "
                f"{facts['rank_share']:.2g}"
            )
            advice = "Use more modes, a larger moment weight or a lower learning rate"
            raise ModeCollapseError(_stop(finding, epoch, advice))
        return facts

    def _update_critics(self, collectives: Collectives) -> float:
        """A few updates of all critics; their mean loss before the last one."""
        settings, value = self.settings, 0.0
        if not settings.adversarial_weight:
            return 0.0
        how = (settings.batch_size, settings.gradient_penalty, self.generator)
        weights = list(self.critics.parameters())
        for _ in range(settings.critic_steps):
            losses = [adversary.critic_loss(*how) for adversary in self.adversaries]
            loss = torch.stack(losses).sum()
            value = update(self.critic_optimiser, loss, weights, collectives)
        self.schedules[1].step()
        return value / sum(a.n_critics for a in self.adversaries)

    def _update_generator(self, step: int, collectives: Collectives) -> Losses:
        """One update of the generator and of what remembers it; its losses."""
        settings = self.settings
        fields, all_readings = self._generate(step // settings.epoch_steps)
        loss, moments = torch.zeros(()), torch.zeros(())
        for adversary, readings in zip(self.adversaries, all_readings, strict=True):
            if settings.adversarial_weight:
                loss = loss + settings.adversarial_weight * adversary.judge(readings)
            moments = moments + adversary.moment_loss(readings)
        loss = loss + settings.moment_weight * moments
        if settings.residual_weight:
            share = min(1.0, step / (WARM_UP * settings.steps))
            weight = settings.residual_weight * share
            loss = loss + weight * self._residual_loss(fields)
        weights = self.model.parameters()
        value = update(self.generator_optimiser, loss, weights, collectives)
        self._remember(all_readings, step + 1)
        self.averaged.update_parameters(self.model)
        self.schedules[0].step()
        return {"generator_loss": value, "moment_loss": moments.item()}

    def _remember(self, all_readings: list[Tensor], step: int) -> None:
        for adversary, readings in zip(self.adversaries, all_readings, strict=True):
            adversary.remember(readings, step)

    def _residual_loss(self, fields: dict[str, Tensor]) -> Tensor:
        flow, y = self.model.flow, fields[LOG_TRANSMISSIVITY]
        scaled = scaled_residual(flow.mesh, flow.forcing, y, fields[HEAD])
        return scaled.square().mean().float()

    def _generate(self, epoch: int) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The fields of one batch of latent variables, and their readings by group."""
        size = self.settings.batch_size // 2, self.model.n_latent
        z = torch.randn(size, generator=self.generator)
        with _finite_fields(epoch):
            # pairs of opposite sign: the mean of what is linear in z is free of noise
            fields: dict[str, Tensor] = self.model(torch.cat([z, -z]))
        return fields, [adversary.read(fields) for adversary in self.adversaries]

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


@contextmanager
def _finite_fields(epoch: int) -> Iterator[None]:
    """What the solver refuses has diverged."""
    try:
        yield
    except FlowSolveError as error:
        stop = _stop("generated fields must stay finite; that ended", epoch)
        raise DivergenceError(f"{stop} {error}") from error


def _stop(finding: str, epoch: int, advice: str = "Lower the learning rate") -> str:
    """What a training says that stops itself."""
    kept = f"the last good checkpoint, after {epoch} epochs, is kept"
    kept = kept if epoch else "there is no checkpoint yet"
    return f"{finding} in epoch {epoch + 1}. {advice}; {kept}."
