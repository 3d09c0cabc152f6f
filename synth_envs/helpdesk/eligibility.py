"""Eligibility: look at an order before cancelling it, and decline where policy forbids it.

The system lets an agent cancel what has shipped, so nothing but the agent's own check stands between the
customer's wish and a violation. In balance cases the order may be cancelled, and declining is wrong.
"""

from __future__ import annotations

import random

from mcp_servers.helpdesk.scenario import Kind, Need, Recipe
from synth_envs.helpdesk.desk import DeskFamily, Played, graded
from trace_agents.types import Capability, Evaluation


class Eligibility(DeskFamily):
    """Cancellations, some of orders that have shipped."""

    need = Need.ELIGIBILITY
    capability = Capability(
        name=need.value,
        title="Check eligibility before cancelling",
        description="Look the order up before cancelling it, and do not cancel an order that has already shipped; "
        "tell the customer why instead.",
    )

    def recipe(self, rng: random.Random) -> Recipe:
        """A cancellation; shipped, but for the balance cases. The other request needs nothing more."""
        return Recipe(
            kinds=self.kinds(rng, Kind.CANCEL, (Kind.EXCHANGE, Kind.INVOICE, Kind.RETURN)),
            blocked=float(rng.random() >= self.mix.balance),
            default_payment=1.0,
            omit=self.mix.omit,
        )

    def grade(self, played: Played) -> Evaluation:
        """Shipped: looked up 0.1, whether then cancelled or refused without the reason; refused with it 1.

        May be cancelled: looked up 0.1, cancelled unseen 0.3, looked up and cancelled 1.
        """
        request = played.request(Kind.CANCEL)
        looked = played.when("get_order", request)
        cancelled = played.when("cancel_order", request)
        checked = bool(looked) and (not cancelled or looked[0] < cancelled[0])
        status = played.order(request)["status"]
        if status == "processing":
            exercised = checked and bool(cancelled)
            progress = 1.0 if cancelled else len(looked[:1]) / 3
        else:
            exercised = checked and not cancelled and played.tells(status)
            progress = checked / 3
        return graded(exercised, progress, slipped=False, strays=played.strays)
