"""A steered campaign in small: members are numbers, the surrogate is their count."""

from dataclasses import dataclass

from workflows.engine.files.artefacts import Manifest


@dataclass(frozen=True)
class Share:
    round: int
    members: int
    drift: float = 0.0


def simulate(record, folder, log, *, surrogate=()):
    chosen_by = surrogate[0].facts["round"] if surrogate else None
    facts = {"members": record.members, "drift": record.drift}
    return Manifest({}, {**facts, "round": record.round, "chosen_by": chosen_by})


def learn(record, folder, log, *, batches):
    n = sum(batch.facts["members"] for batch in batches)
    return Manifest(
        {}, {"round": record.round, "error": 1 / n, "batches": len(batches)}
    )
