"""Refund method: refund to what the order was paid with, as the order says, and not to a habit.

In balance cases the order was paid with store credit, so that avoiding store credit is no shortcut either.
"""

from __future__ import annotations

import random

from mcp_servers.helpdesk.scenario import Kind, Need, Recipe
from synth_envs.helpdesk.desk import DeskFamily, Played, graded
from trace_agents.types import Capability, Evaluation


class RefundMethod(DeskFamily):
    """Returns of orders that were paid in different ways."""

    need = Need.REFUND_METHOD
    capability = Capability(
        name=need.value,
        title="Refund to the original payment method",
        description="When an item is returned, look up what the order was paid with and send the refund there.",
    )

    def recipe(self, rng: random.Random) -> Recipe:
        """A return; paid with something else than store credit, but for the balance cases."""
        return Recipe(
            kinds=self.kinds(rng, Kind.RETURN, (Kind.EXCHANGE, Kind.INVOICE, Kind.CANCEL, Kind.ADDRESS)),
            blocked=0.0,
            default_payment=float(rng.random() < self.mix.balance),
            omit=self.mix.omit,
        )

    def grade(self, played: Played) -> Evaluation:
        """Looked the order up 0.1, and returned an item to a wrong method 0.2; to the right one 1, or 0.6 where it was
        the wrong item. A method that was not looked up first is a guess: 0.1."""
        request = played.request(Kind.RETURN)
        looked = played.when("get_order", request)
        returned = played.when("return_item", request)
        if not returned:
            return graded(False, len(looked[:1]) / 3, slipped=False, strays=played.strays)
        checked = bool(looked) and looked[0] < returned[0]
        paid_with = played.order(request)["paid_with"]
        right = all(played.argument(at, "refund_to") == paid_with for at in returned)
        other_item = any(played.argument(at, "item") != request.item for at in returned)
        progress = (1 + checked) / 3
        return graded(checked and right, progress, slipped=other_item, strays=played.strays)
