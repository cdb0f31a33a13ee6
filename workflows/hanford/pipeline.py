"""The Hanford run from measurements to report, as a method section would tell it.

1. A Gaussian prior of log-transmissivity is fitted to one set of measurements,
   conditioned on it, and expanded in Karhunen-Loève modes.
2. Blocks of members are drawn from it and their steady heads simulated and stored.
3. The ensemble is summarised: the distribution of transmissivity and head everywhere.
4. Ridge regressions and networks learn head from log-transmissivity, on nested sets of
   members; all are scored on members that none of them saw.
5. A physics-informed GAN learns the joint law of both fields from sensor readings of
   training members alone; it is scored beside its classical rivals.
6. Summary and report are written.
"""

from collections.abc import Sequence

from data.sources.aquifer_file import read_aquifer
from surrogates.pigan.build import PiganShape
from surrogates.pigan.train import GanSettings
from workflows.engine.driving.campaign import Campaign, TaskFuture, gather
from workflows.engine.files.ensemble_files import largest_file_bytes
from workflows.engine.files.staging import require_capacity
from workflows.hanford import tasks
from workflows.hanford.config import HanfordConfig
from workflows.hanford.fields import AQUIFER, FIELDS, MEASUREMENTS
from workflows.hanford.generative import InversionRecord, PiganRecord
from workflows.hanford.generative_evaluation import PiganEvaluationRecord
from workflows.hanford.learning import EvaluationRecord, NetworkRecord, RidgeRecord
from workflows.hanford.report import Results, write_results
from workflows.hanford.sensing import SiteRecord
from workflows.hanford.steps import BlockRecord, PriorRecord, StatisticsRecord

MAX_SUBDOMAINS = 8
SENSORS_PER_SUBDOMAIN = 10


def run(config: HanfordConfig, campaign: Campaign) -> str:
    """Runs or continues the workflow; returns the closing words for the user."""
    _require_capacity(config, campaign)
    prior = campaign.submit(tasks.fit_prior, _prior_record(config, campaign))
    blocks = _simulate(config, campaign, prior)
    statistics = campaign.submit(
        tasks.summarise,
        StatisticsRecord(config.ensemble.quorum, campaign.seed),
        prior=prior,
        blocks=blocks,
    )
    evaluation = _learn_head(config, campaign, prior, blocks)
    pigan, joint_law = _learn_joint_law(config, campaign, prior, blocks)
    found = gather([prior, statistics, evaluation, pigan, joint_law])
    return write_results(campaign.folder, config, Results(*found))


def _require_capacity(config: HanfordConfig, campaign: Campaign) -> None:
    """Refuses tiers that cannot hold the largest file of the ensemble."""
    n_cells = read_aquifer(campaign.folder / AQUIFER).n_cells
    form, block = config.store.format, config.ensemble.block
    n_bytes = largest_file_bytes(form, len(FIELDS), block, n_cells)
    require_capacity(campaign.site.tiers, n_bytes)


def _prior_record(config: HanfordConfig, campaign: Campaign) -> PriorRecord:
    """The user's own measurements where there are any, else a published set."""
    has_own = (campaign.folder / MEASUREMENTS).exists()
    given = config.prior.model_dump()
    return PriorRecord(measurements=MEASUREMENTS if has_own else None, **given)


def _simulate(
    config: HanfordConfig, campaign: Campaign, prior: TaskFuture
) -> list[TaskFuture]:
    """The blocks of the ensemble."""
    ensemble, form = config.ensemble, config.store.format
    return [
        campaign.submit(
            tasks.simulate_block,
            BlockRecord(ensemble.members, ensemble.block, block, campaign.seed, form),
            prior=prior,
        )
        for block in range(ensemble.n_blocks)
    ]


def _learn_head(
    config: HanfordConfig,
    campaign: Campaign,
    prior: TaskFuture,
    blocks: Sequence[TaskFuture],
) -> TaskFuture:
    """Ridge regressions and networks for each number of members; their evaluation."""
    ensemble, train = config.ensemble, config.train
    ridges, networks = [], []
    for size in train.members:
        ridge = campaign.submit(
            tasks.fit_baseline, RidgeRecord(size), prior=prior, blocks=blocks
        )
        record = NetworkRecord(
            members=size,
            ensemble_members=ensemble.members,
            test_members=ensemble.test_members,
            steps=train.steps,
            batch_size=train.batch_size,
            learning_rate=train.learning_rate,
            threads=train.threads,
            seed=campaign.seed,
        )
        network = campaign.submit(
            tasks.train_network, record, prior=prior, ridge=ridge, blocks=blocks
        )
        ridges.append(ridge)
        networks.append(network)
    return campaign.submit(
        tasks.evaluate,
        EvaluationRecord(
            train.members, ensemble.members, ensemble.test_members, campaign.seed
        ),
        prior=prior,
        ridges=ridges,
        networks=networks,
        blocks=blocks,
    )


def _learn_joint_law(
    config: HanfordConfig,
    campaign: Campaign,
    prior: TaskFuture,
    blocks: Sequence[TaskFuture],
) -> tuple[TaskFuture, TaskFuture]:
    """The generator and its evaluation beside inverted snapshots."""
    record = _pigan_record(config, campaign.seed)
    pigan = campaign.submit(tasks.train_generator, record, prior=prior, blocks=blocks)
    inversions = []
    if config.has_inversions:
        to_invert = InversionRecord(record.site, config.pigan.inversions)
        inversions.append(
            campaign.submit(tasks.invert, to_invert, prior=prior, blocks=blocks)
        )
    joint_law = campaign.submit(
        tasks.evaluate_generator,
        PiganEvaluationRecord(record, config.pigan.generated_members),
        prior=prior,
        blocks=blocks,
        pigan=pigan,
        inversions=inversions,
    )
    return pigan, joint_law


def _pigan_record(config: HanfordConfig, seed: int) -> PiganRecord:
    """The generator that a config asks for."""
    pigan, ensemble = config.pigan, config.ensemble
    site = SiteRecord(
        problem=config.problem,
        snapshots=pigan.snapshots,
        log_transmissivity_sensors=pigan.log_transmissivity_sensors,
        head_sensors=pigan.head_sensors,
        knows_measurements=pigan.knows_measurements,
        kernel=config.prior.kernel,
        variance_factor=pigan.variance_factor,
        length_factor=pigan.length_factor,
        ensemble_members=ensemble.members,
        test_members=ensemble.test_members,
        seed=seed,
    )
    n_sensors = {
        "forward": pigan.log_transmissivity_sensors,
        "inverse": pigan.head_sensors,
        "mixed": max(pigan.log_transmissivity_sensors, pigan.head_sensors),
    }[config.problem]
    settings = GanSettings(
        steps=pigan.steps,
        seed=seed,
        batch_size=pigan.batch_size,
        learning_rate=pigan.learning_rate,
        n_subdomains=max(1, min(MAX_SUBDOMAINS, n_sensors // SENSORS_PER_SUBDOMAIN)),
        residual_weight=pigan.residual_weight if pigan.physics == "residual" else 0.0,
    )
    shape = PiganShape(pigan.physics, pigan.generator, n_terms=pigan.terms)
    return PiganRecord(site, shape, settings, pigan.threads)
