"""The steps that learn and choose: networks come back, flagged flows are chosen."""

import pytest
import torch

from surrogates.sphere import FlowSchedule, roll_out
from surrogates.sphere.flow_guard import QUANTITIES
from surrogates.training import TrainingSettings
from workflows.engine.arrays import write_arrays
from workflows.engine.artefacts import Manifest, artefact
from workflows.shallow_water import learning, steps
from workflows.shallow_water.fields import (
    advection_of,
    propagator_of,
    read_flows,
)

SEED = 3


def test_a_trained_network_is_read_over_what_it_adds_to(
    run_folder, flow, networks, tuning
):
    _, flows = read_flows(run_folder, 21, [8, 9])
    bases = {
        "advection": advection_of(flow),
        "solver": propagator_of(21, steps.tuned(tuning, 21), flow.interval_s),
    }
    alone, corrects = (
        learning.read_network(run_folder, manifest, bases, 21) for manifest in networks
    )
    assert [m.facts["network"] for m in networks] == ["unet", "hybrid"]
    for network, name in ((alone, "advection"), (corrects, "solver")):
        jet, random = (network.base(flows[:, 0]) - bases[name](flows[:, 0])).abs()
        assert jet.any()  # corrected linearly
        assert not random.any()
    for network in (alone, corrects):
        rolled = roll_out(network, flows[:, 0], 3)
        assert rolled.isfinite().all()
        # mass to the bit, as the first coefficient is never touched by a network
        if network is alone:
            assert torch.equal(
                rolled[:, :, 2, 0, 0], flows[:, :1, 2, 0, 0].expand(2, 4)
            )


def selected(run_folder, flow, networks, summary, tuning, mode="flagged"):
    events = []
    record = learning.SelectionRecord(flow, mode, 2, 4, (12, 13, 14, 15, 16), SEED)
    manifest = learning.select_members(
        record,
        run_folder,
        events.append,
        network=networks[0],
        summary=summary,
        tuning=tuning,
    )
    return manifest.facts, events


def limited(run_folder, largest_vorticity):
    """A guard that looks at vorticity alone."""
    path = run_folder / "fields" / "limited.npz"
    infinite = torch.full((len(QUANTITIES),), torch.inf, dtype=torch.float64)
    highest = infinite.clone()
    highest[QUANTITIES.index("largest vorticity")] = largest_vorticity
    write_arrays(path, lowest=-infinite, highest=highest)
    return Manifest({"summary": artefact(path, run_folder)})


@pytest.mark.parametrize(
    ("limit", "flagged", "chosen"),
    [
        (0.0, [12, 13, 14, 15, 16], [12, 13]),
        (1.1e-4, [14, 16], [16, 14]),  # both grow to 1.2e-4, the others to 1.04e-4
        (torch.inf, [], [12, 13]),
    ],
)
def test_the_first_flagged_are_chosen(  # one argument per file that the step reads
    run_folder, flow, networks, tuning, limit, flagged, chosen
):
    guard = limited(run_folder, limit)
    facts, events = selected(run_folder, flow, networks, guard, tuning)
    assert facts == {
        "chosen": chosen,
        "first_member": 4,
        "flagged_share": len(flagged) / 5,
        "flagged_chosen": min(len(flagged), 2),
    }
    leads = {event["flow"]: event["lead_h"] for event in events}
    assert list(leads) == flagged
    assert chosen[: len(flagged)] == sorted(leads, key=leads.__getitem__)[:2]
    assert {event["reason"] for event in events} <= {"largest vorticity"}


def test_a_random_choice_does_not_look(run_folder, flow, networks, tuning):
    guard = limited(run_folder, 1.1e-4)
    facts, _ = selected(run_folder, flow, networks, guard, tuning, "random")
    assert facts["chosen"] == [12, 13]
    assert facts["flagged_share"] == 0.4
    assert facts["flagged_chosen"] == 0


def test_training_again_gives_the_same_network(run_folder, flow, networks, blocks):
    """A killed training continues to the same bits: here from its beginning."""
    name = networks[0].artefacts["checkpoint"].path
    for path in (run_folder / name, (run_folder / name).with_suffix(".training.pt")):
        path.unlink()
    record = learning.NetworkRecord(
        name="unet",
        flow=flow,
        network="unet",
        width=4,
        depth=1,
        base="advection",
        members=8,
        shown_members=(8, 9),
        schedule=FlowSchedule(TrainingSettings(12, 4, 2e-3, SEED)),
        threads=1,
    )
    again = learning.train_network(record, run_folder, print, blocks=blocks)
    assert again.artefacts == networks[0].artefacts
