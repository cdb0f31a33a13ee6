"""The shallow-water run from first states to report, as a method section would tell it.

1. Flows are drawn, simulated at the truncation of the truth, and kept at that of the
   networks; the last ones are the test.
2. The diffusion of coarse solvers is tuned on training flows.
3. A first network learns from the flows so far. Candidates are rolled out under a
   guard; the flows that it stops first are simulated and added, and the network is
   trained again. Rules decide how often.
4. Other networks learn from all flows. All of them add to potential vorticity that
   the wind carries along, after a linear correction of that. A regression that corrects
   the coarse solver, and a network above both, learn from the flows of the first
   training, beside the steering.
5. Every model is rolled out from the first states of the test flows and scored.
6. Summary and report are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from surrogates.sphere import FlowSchedule
from surrogates.training import TrainingSettings
from workflows.engine.driving.campaign import Campaign, TaskFuture, gather
from workflows.engine.driving.steering import MembersGained, Spent, Steered, steer
from workflows.engine.files.ensemble_files import largest_file_bytes
from workflows.engine.files.staging import require_capacity
from workflows.shallow_water import tasks
from workflows.shallow_water.config import (
    LATITUDES,
    Network,
    ShallowWaterConfig,
    points,
)
from workflows.shallow_water.evaluation import EvaluationRecord
from workflows.shallow_water.fields import FIELDS, FlowRecord
from workflows.shallow_water.learning import (
    CorrectionRecord,
    NetworkRecord,
    SelectionRecord,
)
from workflows.shallow_water.report import Results, write_results
from workflows.shallow_water.steps import BlockRecord, SummaryRecord, TuningRecord

TUNED_ON = 8  # training members
N_SHOWN = 2  # test members whose one-step skill a training curve shows
N_EPOCHS = 20  # points of that curve, and checkpoints, per stage


def run(config: ShallowWaterConfig, campaign: Campaign) -> str:
    """Runs or continues the workflow; returns the closing words for the user."""
    form, block = config.store.format, config.ensemble.block
    n_values = (config.flow.n_steps + 1) * points(config.flow.truncation)
    n_bytes = largest_file_bytes(form, len(FIELDS), block, n_values)
    require_capacity(campaign.site.tiers, n_bytes)
    ensemble = _Ensemble(config, campaign)
    tuning = _tune(ensemble)
    correction = _fit_correction(ensemble, tuning)
    hybrids = [_train_hybrid(ensemble, tuning)] if config.hybrid.steps else []
    steered, selections = _steer(ensemble, tuning)
    networks = [*ensemble.networks, *hybrids]
    summary = _summarise(ensemble, ensemble.test)
    evaluation = campaign.submit(
        tasks.evaluate,
        EvaluationRecord(
            ensemble.flow,
            ensemble.test_members,
            _solvers(config),
            campaign.seed,
        ),
        summary=summary,
        tuning=tuning,
        networks=networks,
        correction=correction,
    )
    results = Results(
        *gather([summary, tuning, evaluation]),
        trainings=gather(networks),
        selections=gather(selections),
        steered=steered,
    )
    return write_results(campaign.folder, config, results)


@dataclass(slots=True)
class _Ensemble:
    """The blocks of a run, and the networks that learn from all of them.

    The test is simulated at once, what is for training batch by batch.
    """

    config: ShallowWaterConfig
    campaign: Campaign
    training: list[TaskFuture] = field(default_factory=list)
    test: list[TaskFuture] = field(default_factory=list)
    networks: list[TaskFuture] = field(default_factory=list)

    def __post_init__(self) -> None:
        ensemble = self.config.ensemble
        self.test += self.simulate(ensemble.training_members, ensemble.test_members)
        self.training += self.simulate(0, self.config.first_members)

    @property
    def flow(self) -> FlowRecord:
        """Which flows they are."""
        flow = self.config.flow
        return FlowRecord(
            flow.truth_truncation, flow.truncation, flow.days, flow.interval_h
        )

    @property
    def test_members(self) -> tuple[int, ...]:
        """Their numbers."""
        ensemble = self.config.ensemble
        return tuple(range(ensemble.training_members, ensemble.members))

    @property
    def n_training(self) -> int:
        """Training members so far."""
        return min(
            len(self.training) * self.config.ensemble.block,
            self.config.ensemble.training_members,
        )

    def simulate(
        self, first: int, n_members: int, selection: TaskFuture | None = None
    ) -> list[TaskFuture]:
        """Submits the blocks of some members."""
        config, size = self.config, self.config.ensemble.block
        inputs = {} if selection is None else {"selection": selection}
        return [
            self.campaign.submit(
                tasks.simulate_block,
                BlockRecord(
                    self.flow,
                    config.ensemble.members,
                    size,
                    block,
                    self.campaign.seed,
                    config.store.format,
                ),
                **inputs,
            )
            for block in range(first // size, (first + n_members) // size)
        ]


def _solvers(config: ShallowWaterConfig) -> tuple[int, ...]:
    """Truncations below that of the truth, from T21."""
    return tuple(t for t in LATITUDES if t < config.flow.truth_truncation)


def _tune(ensemble: _Ensemble) -> TaskFuture:
    n_members = min(TUNED_ON, ensemble.config.first_members)
    n_blocks = -(-n_members // ensemble.config.ensemble.block)
    return ensemble.campaign.submit(
        tasks.tune_diffusion,
        TuningRecord(
            ensemble.flow,
            _solvers(ensemble.config),
            n_members,
            ensemble.campaign.seed,
        ),
        blocks=ensemble.training[:n_blocks],
    )


def _summarise(ensemble: _Ensemble, test: Sequence[TaskFuture] = ()) -> TaskFuture:
    """Of the training members so far; with the test, all count for the quorum."""
    config = ensemble.config
    return ensemble.campaign.submit(
        tasks.summarise,
        SummaryRecord(
            config.flow.truncation,
            ensemble.n_training,
            config.first_members,
            config.ensemble.quorum,
            config.guard.margin,
        ),
        blocks=[*ensemble.training, *test],
    )


def _train(
    ensemble: _Ensemble, network: Network, steps: int, rollout_steps: int = 0
) -> TaskFuture:
    """A network that does without a solver."""
    train = ensemble.config.train
    width, depth = {
        "unet": (train.unet_width, train.unet_depth),
        "sfno": (train.sfno_width, train.sfno_depth),
    }[network]
    schedule = _schedule(ensemble, steps, rollout_steps)
    record = _network_record(ensemble, network, network, width, depth, schedule)
    return ensemble.campaign.submit(
        tasks.train_network, record, blocks=[*ensemble.training, *ensemble.test]
    )


def _fit_correction(ensemble: _Ensemble, tuning: TaskFuture) -> TaskFuture:
    """The linear correction of the coarse solver; learns from the first members."""
    return ensemble.campaign.submit(
        tasks.fit_correction,
        CorrectionRecord(ensemble.flow, ensemble.n_training),
        tuning=tuning,
        blocks=list(ensemble.training),
    )


def _train_hybrid(ensemble: _Ensemble, tuning: TaskFuture) -> TaskFuture:
    """The network that corrects the coarse solver further than the regression does.

    It learns from the first members.
    """
    hybrid = ensemble.config.hybrid
    schedule = _schedule(ensemble, hybrid.steps, hybrid.rollout_steps)
    record = _network_record(
        ensemble, "hybrid", hybrid.network, hybrid.width, hybrid.depth, schedule
    )
    return ensemble.campaign.submit(
        tasks.train_network,
        record,
        tuning=tuning,
        blocks=[*ensemble.training, *ensemble.test],
    )


def _schedule(ensemble: _Ensemble, steps: int, rollout_steps: int) -> FlowSchedule:
    train = ensemble.config.train
    settings = TrainingSettings(
        steps,
        train.batch_size,
        train.learning_rate,
        ensemble.campaign.seed,
        epoch_steps=max(1, steps // N_EPOCHS),
    )
    return FlowSchedule(settings, rollout_steps)


def _network_record(
    ensemble: _Ensemble,
    name: str,
    network: Network,
    width: int,
    depth: int,
    schedule: FlowSchedule,
) -> NetworkRecord:
    return NetworkRecord(
        name=name,
        flow=ensemble.flow,
        network=network,
        width=width,
        depth=depth,
        members=ensemble.n_training,
        shown_members=ensemble.test_members[:N_SHOWN],
        schedule=schedule,
        threads=ensemble.config.train.threads,
    )


def _steer(
    ensemble: _Ensemble, tuning: TaskFuture
) -> tuple[Steered | None, list[TaskFuture]]:
    """Adds the members that a first network chooses; how it ended, the selections."""
    config, campaign = ensemble.config, ensemble.campaign
    train, steering, selections = config.train, config.steering, list[TaskFuture]()

    def learn(_round: int = 0, _tasks: Sequence[TaskFuture] = ()) -> TaskFuture:
        if ensemble.n_training < config.ensemble.training_members:
            return _train(ensemble, train.networks[0], steering.steps)
        ensemble.networks += [
            _train(ensemble, network, train.steps, train.rollout_steps)
            for network in train.networks
        ]
        return ensemble.networks[0]

    if steering.mode == "none":
        learn()
        return None, selections
    mode: Literal["flagged", "random"] = steering.mode

    def simulate(number: int, network: TaskFuture | None) -> list[TaskFuture]:
        if network is None:
            return ensemble.training
        first = config.ensemble.members + (number - 1) * steering.candidates
        selections.append(
            campaign.submit(
                tasks.select_members,
                SelectionRecord(
                    ensemble.flow,
                    mode,
                    steering.members,
                    ensemble.n_training,
                    tuple(range(first, first + steering.candidates)),
                    campaign.seed,
                ),
                network=network,
                summary=_summarise(ensemble),
                tuning=tuning,
            )
        )
        batch = ensemble.simulate(ensemble.n_training, steering.members, selections[-1])
        ensemble.training += batch
        return batch

    steered = steer(
        simulate,
        learn,
        batch_members=steering.members,
        retrain=[MembersGained(1)],
        stop=[Spent(config.ensemble.training_members)],
        log=campaign.log,
        overlap=False,
    )
    return steered, selections
