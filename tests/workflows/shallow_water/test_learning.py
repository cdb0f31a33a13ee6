"""The steps that learn and choose: networks come back, flagged flows are chosen."""

import pytest
import torch

from simulators.sphere import change_truncation
from surrogates.sphere import FlowSchedule, roll_out
from surrogates.sphere.flow_guard import QUANTITIES
from surrogates.training import TrainingSettings
from workflows.engine.files.arrays import write_arrays
from workflows.engine.files.artefacts import Manifest, artefact
from workflows.shallow_water import learning, steps
from workflows.shallow_water.fields import (
    advection_of,
    draw_states,
    harmonics_of,
    propagator_of,
    read_flows,
)

SEED = 3
CANDIDATES = (12, 13, 14, 15, 16)


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
    record = learning.SelectionRecord(flow, mode, 2, 4, CANDIDATES, SEED)
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


@pytest.fixture(scope="module")
def largest_vorticity(run_folder, flow, networks):
    """After each interval of the candidates, without a guard, (candidates, steps)."""
    bases = {"advection": advection_of(flow)}
    network = learning.read_network(run_folder, networks[0], bases, 21)
    first = change_truncation(draw_states(CANDIDATES, SEED, 31), 21)
    flows = roll_out(network, first, flow.n_steps)[:, 1:, 0]
    return harmonics_of(21).synthesise(flows).abs().amax((-2, -1))


def between(values, n_above):
    """A limit that so many of the flows reach at some time."""
    ranked = values.amax(1).sort(descending=True).values
    return float(ranked[n_above - 1 : n_above + 1].mean())


@pytest.mark.parametrize("n_flagged", [0, 1, 2, 3, 5])
def test_the_first_flagged_are_chosen(  # one argument per file that the step reads
    run_folder, flow, networks, tuning, largest_vorticity, n_flagged
):
    limit = {0: torch.inf, 5: 0.0}.get(n_flagged)
    if limit is None:
        limit = between(largest_vorticity, n_flagged)
    above = largest_vorticity > limit
    leads = {  # [h], of those that are stopped
        number: 12 * (1 + int(row.int().argmax()))
        for number, row in zip(CANDIDATES, above, strict=True)
        if row.any()
    }
    first = sorted(leads, key=leads.__getitem__)[:2]
    others = [number for number in CANDIDATES if number not in leads]
    guard = limited(run_folder, limit)
    facts, events = selected(run_folder, flow, networks, guard, tuning)
    assert facts == {
        "chosen": [*first, *others][:2],
        "first_member": 4,
        "flagged_share": n_flagged / 5,
        "flagged_chosen": min(n_flagged, 2),
    }
    assert {event["flow"]: event["lead_h"] for event in events} == leads
    assert {event["reason"] for event in events} <= {"largest vorticity"}


def test_a_random_choice_does_not_look(
    run_folder, flow, networks, tuning, largest_vorticity
):
    """Of flows of which one is stopped that is not among the first two."""
    stopped = int(largest_vorticity.amax(1).argmax())
    assert stopped > 1
    guard = limited(run_folder, between(largest_vorticity, 1))
    facts, _ = selected(run_folder, flow, networks, guard, tuning, "random")
    assert facts["chosen"] == [12, 13]
    assert facts["flagged_share"] == 0.2
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
        members=8,
        shown_members=(8, 9),
        schedule=FlowSchedule(TrainingSettings(12, 4, 2e-3, SEED)),
        threads=1,
    )
    again = learning.train_network(record, run_folder, print, blocks=blocks)
    assert again.artefacts == networks[0].artefacts
