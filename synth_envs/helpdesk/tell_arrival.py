"""Tell arrival: pass on the day of arrival that tracking gave.

There is no balance case: whoever asks for the day always wants to hear it.
"""

from __future__ import annotations

import random

from mcp_servers.helpdesk.scenario import Kind, Need, Recipe
from synth_envs.helpdesk.desk import DeskFamily, Mix, Played, graded
from trace_agents.types import Capability, Evaluation


class TellArrival(DeskFamily):
    """Questions about when an order arrives."""

    need = Need.TELL_ARRIVAL
    defaults = Mix(balance=0.0)
    has_balance = False
    capability = Capability(
        name=need.value,
        title="Tell the arrival date",
        description="When the customer asks when an order arrives, track the shipment and tell the day that it gives.",
    )

    def recipe(self, rng: random.Random) -> Recipe:
        """A question about arrival."""
        others = (Kind.EXCHANGE, Kind.INVOICE, Kind.CANCEL, Kind.ADDRESS, Kind.RETURN)
        kinds = self.kinds(rng, Kind.TRACK, others)
        return Recipe(kinds=kinds, blocked=0.0, default_payment=1.0, omit=self.mix.omit)

    def grade(self, played: Played) -> Evaluation:
        """Tracked 0.15, tracked and told the day 1."""
        request = played.request(Kind.TRACK)
        tracked = bool(played.when("track_shipment", request))
        told = tracked and played.tells(played.order(request)["arrives"])
        return graded(told, tracked / 2, slipped=False, strays=played.strays)
