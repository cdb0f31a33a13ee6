"""The Hanford run from measurements to report, as a method section would tell it.

1. A Gaussian prior of log-transmissivity is fitted to one set of measurements,
   conditioned on it, and expanded in Karhunen-Loève modes.
2. Blocks of members are drawn from it and their steady heads simulated and stored.
3. The ensemble is summarised: the distribution of transmissivity and head everywhere.
4. Ridge regressions and networks learn head from log-transmissivity, on nested sets of
   members; all are scored on members that none of them saw.
5. Summary and report are written.
"""

from workflows.engine.campaign import Campaign, gather
from workflows.hanford import tasks
from workflows.hanford.config import HanfordConfig
from workflows.hanford.fields import MEASUREMENTS
from workflows.hanford.learning import EvaluationRecord, NetworkRecord, RidgeRecord
from workflows.hanford.report import Results, write_results
from workflows.hanford.steps import BlockRecord, PriorRecord, StatisticsRecord


def run(config: HanfordConfig, campaign: Campaign) -> str:
    """Runs or continues the workflow; returns the closing words for the user."""
    ensemble, train = config.ensemble, config.train
    has_own = (campaign.folder / MEASUREMENTS).exists()
    prior = campaign.submit(
        tasks.fit_prior,
        PriorRecord(
            measurements=MEASUREMENTS if has_own else None,
            n_observations=config.prior.n_observations,
            observation_set=config.prior.observation_set,
            kernel=config.prior.kernel,
            variance=config.prior.variance,
            correlation_length_m=config.prior.correlation_length_m,
            nugget=config.prior.nugget,
            variance_share=config.prior.variance_share,
        ),
    )
    blocks = [
        campaign.submit(
            tasks.simulate_block,
            BlockRecord(ensemble.members, ensemble.block, block, campaign.seed),
            prior=prior,
        )
        for block in range(ensemble.n_blocks)
    ]
    statistics = campaign.submit(
        tasks.summarise,
        StatisticsRecord(ensemble.quorum, campaign.seed),
        prior=prior,
        blocks=blocks,
    )
    ridges = [
        campaign.submit(
            tasks.fit_baseline, RidgeRecord(size), prior=prior, blocks=blocks
        )
        for size in train.members
    ]
    networks = [
        campaign.submit(
            tasks.train_network,
            NetworkRecord(
                members=size,
                ensemble_members=ensemble.members,
                test_members=ensemble.test_members,
                steps=train.steps,
                batch_size=train.batch_size,
                learning_rate=train.learning_rate,
                threads=train.threads,
                seed=campaign.seed,
            ),
            prior=prior,
            ridge=ridge,
            blocks=blocks,
        )
        for size, ridge in zip(train.members, ridges, strict=True)
    ]
    evaluation = campaign.submit(
        tasks.evaluate,
        EvaluationRecord(
            train.members, ensemble.members, ensemble.test_members, campaign.seed
        ),
        prior=prior,
        ridges=ridges,
        networks=networks,
        blocks=blocks,
    )
    found = gather([prior, statistics, evaluation])
    return write_results(campaign.folder, config, Results(*found))
