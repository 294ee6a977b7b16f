"""Keeping what reserves ask for out of what the limits that experiments share take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from quota.domain.choosing import Choice
from quota.domain.limits import Reserve
from quota.domain.policies import Candidate
from quota.domain.standing import Standing


class Reserved:
    """Knows how much each reserve can spare.

    What no trial would load can always go, and is no part of what a reserve keeps.

    Attributes:
        kept: URIs of what reserves have been found to ask for.

    Args:
        reserves: What is kept, of labels and of experiments.
        standings: What all experiments hold.
        taken: What goes anyway, by experiment and place.
    """

    def __init__(
        self,
        reserves: Sequence[Reserve],
        standings: Sequence[Standing],
        taken: Mapping[str, Mapping[str, Candidate]],
    ) -> None:
        self.kept: frozenset[str] = frozenset()
        self._spare: list[tuple[Reserve, int]] = []
        self._of: dict[str, list[int]] = defaultdict(list)
        for number, reserve in enumerate(reserves):
            members = [one for one in standings if reserve.parsed_scope.contains(one.experiment_id, one.labels, None)]
            spare = -reserve.amount
            for member in members:
                is_counted = reserve.measure == "checkpoints"
                spare += member.worth_checkpoints if is_counted else member.worth_bytes
                gone = taken.get(member.experiment_id, {}).values()
                spare -= sum(_amount(reserve, one) for one in gone if one.is_needed)
                self._of[member.experiment_id].append(number)
            self._spare.append((reserve, spare))

    def asked_for(self, choices: Sequence[Choice]) -> set[Choice]:
        """Return which of the choices reserves ask for: the last ones, once those before are gone."""
        spare = [amount for _, amount in self._spare]
        asked_for: set[Choice] = set()
        for choice in choices:
            if not choice.candidate.is_needed:
                continue
            numbers = self._of.get(choice.experiment_id, ())
            amounts = {number: _amount(self._spare[number][0], choice.candidate) for number in numbers}
            if any(spare[number] < amount for number, amount in amounts.items()):
                asked_for.add(choice)
                continue
            for number, amount in amounts.items():
                spare[number] -= amount
        self.kept |= {choice.candidate.uri for choice in asked_for}
        return asked_for


def _amount(reserve: Reserve, candidate: Candidate) -> int:
    return 1 if reserve.measure == "checkpoints" else candidate.size_bytes
