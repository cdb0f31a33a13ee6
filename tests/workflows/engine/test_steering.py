"""Rules decide on what is known; the loop submits, trains and stops as they say."""

from functools import partial

import pytest

from workflows.engine.driving.steering import (
    Above,
    MembersGained,
    Reached,
    Situation,
    Spent,
    Stalled,
    steer,
)
from workflows.engine.driving.tasks import Task
from workflows.engine.watching.events import read_events


def situation(members=10, learned=4, errors=(), **batch):
    surrogates = tuple({"error": error} for error in errors)
    return Situation(members, learned, surrogates, batch)


@pytest.mark.parametrize(
    ("rule", "now", "reason"),
    [
        (MembersGained(6), situation(), "6 new members, at least 6"),
        (MembersGained(7), situation(), None),
        (Above("error", 0.1), situation(errors=[0.3, 0.2]), "error 0.2 above 0.1"),
        (Above("error", 0.2), situation(errors=[0.3, 0.2]), None),
        (Above("drift", 1e-6), situation(drift=2e-6), "drift 2e-06 above 1e-06"),
        (Above("drift", 1.0), situation(drift=float("nan")), "drift nan above 1"),
        (Reached("error", 0.2), situation(errors=[0.2]), "error 0.2 at or below 0.2"),
        (Reached("error", 0.1), situation(errors=[0.2]), None),
        (Spent(10), situation(), "10 members, budget 10"),
        (Spent(11), situation(), None),
        (Stalled("error", 2, 0.1), situation(errors=[1.0, 0.95]), None),
        (Stalled("error", 2, 0.1), situation(errors=[1.0, 0.95, 0.8]), None),
        (
            Stalled("error", 2, 0.1),
            situation(errors=[1.0, 0.95, 0.92]),
            "error fell by less than 10% in 2 rounds, from 1 to 0.92",
        ),
    ],
)
def test_rules_give_their_reason_with_the_numbers(rule, now, reason):
    assert rule.reason(now) == reason


def test_a_rule_about_what_nobody_states_is_refused():
    with pytest.raises(ValueError, match="got 'skill', known are drift, error"):
        Above("skill", 1).reason(situation(errors=[1.0], drift=0.0))


def campaign_parts(campaign, drift=0.0):
    import steered_steps as steps

    simulated, learned = (
        Task(steps.simulate, "sim", "1"),
        Task(steps.learn, "train", "1"),
    )

    def simulate(number, surrogate):
        inputs = {"surrogate": [surrogate]} if surrogate else {}
        shares = [steps.Share(number, n, drift) for n in (2, 3)]
        return [campaign.submit(simulated, share, **inputs) for share in shares]

    def learn(number, batches):
        return campaign.submit(learned, steps.Share(number, 0), batches=batches)

    return partial(steer, simulate, learn, batch_members=5, log=campaign.log)


def decisions(folder):
    return [
        (e["decision"], e["reason"], e["members"])
        for e in read_events(folder)
        if e.get("event") == "decision"
    ]


@pytest.mark.parametrize("site", ["laptop", "laptop_htex"])
def test_the_loop_trains_and_stops_as_the_rules_say(campaign_on, site):
    with campaign_on(site) as campaign:
        found = campaign_parts(campaign)(
            retrain=[MembersGained(10)], stop=[Reached("error", 0.05), Spent(50)]
        )
    assert found.members == 25
    assert [facts["members"] for facts in found.history] == [5, 15, 25]
    assert found.surrogate.facts["batches"] == 10
    assert found.reason == "error 0.04 at or below 0.05"
    assert decisions(campaign.folder) == [
        ("train", "nothing was trained yet", 5),
        ("train", "10 new members, at least 10", 15),
        ("train", "10 new members, at least 10", 25),
        ("stop", "error 0.04 at or below 0.05", 25),
    ]


def chosen_by(campaign, overlap):
    """Which surrogate chose each round's batch."""
    seen = {}
    parts = campaign_parts(campaign)
    simulate, learn = parts.args

    def watched(number, surrogate):
        seen[number] = simulate(number, surrogate)
        return seen[number]

    steer(
        watched,
        learn,
        retrain=[MembersGained(5)],
        stop=[Spent(20)],
        overlap=overlap,
        **parts.keywords,
    )
    campaign.wait()
    return {n: batch[0].result().facts["chosen_by"] for n, batch in seen.items()}


def test_a_batch_is_chosen_by_the_surrogate_of_a_declared_round(campaign_on):
    with campaign_on() as campaign:
        assert chosen_by(campaign, overlap=False) == {0: None, 1: 0, 2: 1, 3: 2}
        # the first two by chance, then one round behind; none beside the last training
        assert chosen_by(campaign, overlap=True) == {0: None, 1: None, 2: 0, 3: 1}


def test_training_is_submitted_before_the_batch_that_runs_beside_it(campaign_on):
    order = []
    with campaign_on() as campaign:
        parts = campaign_parts(campaign)
        simulate, learn = parts.args

        def simulate_noted(number, surrogate):
            order.append(f"simulate {number}")
            return simulate(number, surrogate)

        def learn_noted(number, batches):
            order.append(f"learn {number}")
            return learn(number, batches)

        rules = {"retrain": [MembersGained(5)], "stop": [Spent(10)]}
        steer(simulate_noted, learn_noted, **rules, **parts.keywords)
    assert order == ["simulate 0", "learn 0", "simulate 1", "learn 1"]


def test_drift_of_a_batch_calls_for_training(campaign_on):
    with campaign_on() as campaign:
        campaign_parts(campaign, drift=0.5)(
            retrain=[MembersGained(100), Above("drift", 0.1)], stop=[Spent(10)]
        )
    assert ("train", "drift 0.5 above 0.1", 10) in decisions(campaign.folder)


def test_a_continued_campaign_decides_the_same_and_computes_nothing(campaign_on):
    rules = {"retrain": [MembersGained(5)], "stop": [Spent(20)]}
    with campaign_on() as campaign:
        first = campaign_parts(campaign)(**rules)
    starts = sum(e.get("event") == "start" for e in read_events(campaign.folder))
    with campaign_on() as campaign:
        again = campaign_parts(campaign)(**rules)
    assert again == first
    events = read_events(campaign.folder)
    assert sum(e.get("event") == "start" for e in events) == starts
    made = decisions(campaign.folder)
    assert made[: len(made) // 2] == made[len(made) // 2 :]


def test_a_campaign_without_rules_is_refused(campaign_on):
    with campaign_on() as campaign, pytest.raises(ValueError, match="got 1 and 0"):
        campaign_parts(campaign)(retrain=[MembersGained(1)], stop=[])
