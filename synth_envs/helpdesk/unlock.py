"""Unlock: recover from "order is locked" by unlocking the order and trying again.

An order does not show that it is locked until a change fails. In balance cases it is not, and unlocking is wrong.
"""

from __future__ import annotations

import random

from mcp_servers.helpdesk.scenario import Kind, Need, Recipe
from synth_envs.helpdesk.desk import DeskFamily, Played, graded
from trace_agents.types import Capability, Evaluation


class Unlock(DeskFamily):
    """Changes of address, of orders that are locked."""

    need = Need.UNLOCK
    capability = Capability(
        name=need.value,
        title="Recover from a locked order",
        description="When a change fails because the order is locked, unlock the order and make the change again.",
    )

    def recipe(self, rng: random.Random) -> Recipe:
        """A change of address; locked, but for the balance cases."""
        return Recipe(
            kinds=self.kinds(rng, Kind.ADDRESS, (Kind.EXCHANGE, Kind.INVOICE, Kind.RETURN)),
            blocked=float(rng.random() >= self.mix.balance),
            default_payment=1.0,
            omit=self.mix.omit,
        )

    def grade(self, played: Played) -> Evaluation:
        """Locked: tried 0.1, then unlocked 0.2, then changed 1. Unlocked before it was known to be locked: 0.1.

        Not locked: changed 1, and 0 with an unlock. A wrong address is a slip: 0.6.
        """
        request = played.request(Kind.ADDRESS)
        refused = played.when("change_address", request, failed=True)
        unlocked = played.when("unlock_order", request)
        changed = played.when("change_address", request)
        wrong = bool(changed) and played.argument(changed[-1], "address") != request.address
        if not played.order(request)["locked"]:
            return graded(bool(changed) and not unlocked, 0.0, slipped=wrong, strays=played.strays)
        known = bool(refused and unlocked) and refused[0] < unlocked[0]
        progress = (len(refused[:1]) + known) / 3 if refused else len(changed[:1]) / 3
        return graded(known and bool(changed), progress, slipped=wrong, strays=played.strays)
