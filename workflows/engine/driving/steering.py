"""A campaign that decides what to simulate, when to train again and when to stop.

    batch 0 ──► train on batch 0 ──► train on batches 0 and 1 ──► ...
                while batch 1 is     while batch 2, chosen by
                simulated            the first surrogate, is

A surrogate learns from whole batches only, and a batch is chosen by the surrogate of a
declared earlier round: nothing depends on which task was faster, and a killed campaign
continues to the same bits. With `overlap`, the next batch is simulated while the
surrogate trains, unless a rule to stop holds already, and the one under way at the end
is not used; without, the next batch waits for the surrogate that chooses it.

Rules are small objects that look at a `Situation` and return a reason or None. Every
decision is an event with its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from workflows.engine.driving.campaign import TaskFuture, gather
from workflows.engine.files.artefacts import Manifest
from workflows.engine.watching.events import Log

Batch = Sequence[TaskFuture]
Simulate = Callable[[int, TaskFuture | None], Batch]
Learn = Callable[[int, Sequence[TaskFuture]], TaskFuture]


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known between two rounds.

    Attributes:
        members: simulated so far, in whole batches.
        learned_members: of them, those that the latest surrogate learned from.
        surrogates: numbers among the facts of each surrogate so far, latest last.
        batch: numbers among the facts of the latest batch, mean over its tasks.
    """

    members: int
    learned_members: int
    surrogates: tuple[Mapping[str, float], ...]
    batch: Mapping[str, float]

    def latest(self, fact: str) -> float:
        """A fact of the latest batch or else of the latest surrogate.

        Raises:
            ValueError: neither states it.
        """
        known = {**(self.surrogates[-1] if self.surrogates else {}), **self.batch}
        if fact not in known:
            raise ValueError(
                f"a rule must look at a number that simulation or training states; got "
                f"{fact!r}, known are {', '.join(sorted(known)) or 'none'}."
            )
        return known[fact]


class Rule(Protocol):
    """Something that may call for a decision."""

    def reason(self, situation: Situation) -> str | None:
        """Why, in words with the numbers, or None."""


@dataclass(frozen=True, slots=True)
class MembersGained:
    """So many members that the surrogate has not seen: train again."""

    least: int

    def reason(self, situation: Situation) -> str | None:
        """Compares the members since the last training."""
        gained = situation.members - situation.learned_members
        if gained < self.least:
            return None
        return f"{gained} new members, at least {self.least}"


@dataclass(frozen=True, slots=True)
class Above:
    """A fact beyond a limit: validation error, share out of the spread, drift."""

    fact: str
    limit: float

    def reason(self, situation: Situation) -> str | None:
        """Compares the latest value."""
        value = situation.latest(self.fact)
        if value <= self.limit:  # no number is beyond every limit
            return None
        return f"{self.fact} {value:.4g} above {self.limit:.4g}"


@dataclass(frozen=True, slots=True)
class Reached:
    """A fact of the surrogate at or below a limit: good enough, stop."""

    fact: str
    limit: float

    def reason(self, situation: Situation) -> str | None:
        """Compares the latest value."""
        value = situation.latest(self.fact)
        if not value <= self.limit:
            return None
        return f"{self.fact} {value:.4g} at or below {self.limit:.4g}"


@dataclass(frozen=True, slots=True)
class Spent:
    """The budget of members is spent: stop."""

    members: int

    def reason(self, situation: Situation) -> str | None:
        """Compares the members so far."""
        if situation.members < self.members:
            return None
        return f"{situation.members} members, budget {self.members}"


@dataclass(frozen=True, slots=True)
class Stalled:
    """A fact of the surrogates no longer falls: stop.

    Attributes:
        fact: to fall.
        rounds: over which it is compared.
        share: by which it must have fallen.
    """

    fact: str
    rounds: int
    share: float

    def reason(self, situation: Situation) -> str | None:
        """Compares the best of the latest rounds with the best before them."""
        values = [facts[self.fact] for facts in situation.surrogates]
        before, latest = values[: -self.rounds], values[-self.rounds :]
        if not before or min(latest) < (1 - self.share) * min(before):
            return None
        return (
            f"{self.fact} fell by less than {self.share:.0%} in {self.rounds} rounds, "
            f"from {min(before):.4g} to {min(latest):.4g}"
        )


@dataclass(frozen=True, slots=True)
class Steered:
    """How a steered campaign ended.

    Attributes:
        surrogate: the last one.
        members: simulated in whole batches, also after the last training.
        history: numbers that each surrogate stated, in order, with its `members`.
        reason: why it stopped.
    """

    surrogate: Manifest
    members: int
    history: tuple[Mapping[str, float], ...]
    reason: str


def steer(
    simulate: Simulate,
    learn: Learn,
    *,
    batch_members: int,
    retrain: Sequence[Rule],
    stop: Sequence[Rule],
    log: Log,
    overlap: bool = True,
) -> Steered:
    """Simulates and trains in turn until a rule says stop.

    Args:
        simulate: submits the batch of a round, chosen by a surrogate or, for None, at
            random; each task's manifest states `members` among its facts if some of
            them failed.
        learn: submits the training of a round on the tasks of all batches so far.
        batch_members: members of one batch.
        retrain: rules of which one must hold for the surrogate to be trained again.
        stop: rules of which one ends the campaign, looked at after every batch.
        log: receives the decisions.
        overlap: whether the next batch is simulated during a training.

    Raises:
        ValueError: no rule to train again or to stop.
    """
    if not retrain or not stop:
        raise ValueError(
            "a steered campaign must have a rule to train again and one to stop; got "
            f"{len(retrain)} and {len(stop)}."
        )
    tasks: list[TaskFuture] = []
    batch = simulate(0, None)
    surrogate: TaskFuture | None = None
    situation = Situation(0, 0, (), {})
    number = -1
    while True:
        number += 1
        tasks += batch
        situation = _with_batch(situation, batch_members, gather(batch))
        reason = _first(retrain, situation) if surrogate else "nothing was trained yet"
        ahead = None
        if reason:
            _tell(log, "train", reason, situation)
            # before the next batch, whose tasks would fill every worker's queue
            training = learn(number, list(tasks))
            if overlap and not (surrogate and _first(stop, situation)):
                ahead = simulate(number + 1, surrogate)
            surrogate = training
            situation = _with_surrogate(situation, gather([training])[0])
        assert surrogate is not None  # the first round trains
        end = _first(stop, situation)
        if end:
            _tell(log, "stop", end, situation)
            manifest, members = surrogate.result(), situation.members
            return Steered(manifest, members, situation.surrogates, end)
        batch = ahead or simulate(number + 1, surrogate)


def _with_batch(
    situation: Situation, n_members: int, manifests: Sequence[Manifest]
) -> Situation:
    facts = [_numbers(manifest) for manifest in manifests]
    shared = set.intersection(*(set(item) for item in facts))
    means = {key: sum(item[key] for item in facts) / len(facts) for key in shared}
    counted = [item.get("members") for item in facts]
    if None not in counted:
        n_members = int(sum(item["members"] for item in facts))
    return Situation(
        situation.members + n_members,
        situation.learned_members,
        situation.surrogates,
        {key: value for key, value in means.items() if key != "members"},
    )


def _with_surrogate(situation: Situation, manifest: Manifest) -> Situation:
    facts = {**_numbers(manifest), "members": float(situation.members)}
    return Situation(
        situation.members,
        situation.members,
        (*situation.surrogates, facts),
        situation.batch,
    )


def _numbers(manifest: Manifest) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in manifest.facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _first(rules: Sequence[Rule], situation: Situation) -> str | None:
    return next(filter(None, (rule.reason(situation) for rule in rules)), None)


def _tell(log: Log, decision: str, reason: str, situation: Situation) -> None:
    log(
        {
            "event": "decision",
            "decision": decision,
            "reason": reason,
            "members": situation.members,
        }
    )
