"""All requests: do everything that a compound message asks for before closing the conversation.

Balance cases ask for one thing, and doing more is wrong. In the harder share (`compound`) one of the requests needs
another capability too; whether that one is exercised does not matter here, only that the request is taken up.
"""

from __future__ import annotations

import random

from mcp_servers.helpdesk.scenario import Kind, Need, Recipe, Request
from synth_envs.helpdesk.desk import DeskFamily, Played, graded
from trace_agents.types import Capability, Evaluation

_PLAIN = (Kind.CANCEL, Kind.RETURN, Kind.EXCHANGE, Kind.ADDRESS, Kind.INVOICE)
_DEMANDING = (Kind.CANCEL, Kind.RETURN, Kind.ADDRESS, Kind.TRACK)
_DECIDING = {
    Kind.CANCEL: "cancel_order",
    Kind.RETURN: "return_item",
    Kind.EXCHANGE: "exchange_item",
    Kind.ADDRESS: "change_address",
    Kind.TRACK: "track_shipment",
    Kind.INVOICE: "send_invoice",
}
"""The call that shows that a request was taken up."""


class AllRequests(DeskFamily):
    """Two requests in one message."""

    need = Need.ALL_REQUESTS
    capability = Capability(
        name=need.value,
        title="Complete every request",
        description="When the customer asks for several things at once, do all of them before closing "
        "the conversation.",
    )

    def recipe(self, rng: random.Random) -> Recipe:
        """Two requests of different kinds, one of them demanding in the harder share; one request in balance cases."""
        if rng.random() < self.mix.balance:
            return Recipe(kinds=(rng.choice(_PLAIN),), blocked=0.0, default_payment=1.0, omit=self.mix.omit)
        if rng.random() >= self.mix.compound:
            return Recipe(kinds=tuple(rng.sample(_PLAIN, 2)), blocked=0.0, default_payment=1.0)
        first = rng.choice(_DEMANDING)
        kinds = [first, rng.choice([kind for kind in (*_DEMANDING, Kind.EXCHANGE, Kind.INVOICE) if kind is not first])]
        rng.shuffle(kinds)
        return Recipe(kinds=tuple(kinds), blocked=1.0, default_payment=0.0)

    def grade(self, played: Played) -> Evaluation:
        """0.3 times the share of the requests that were taken up; 1 for all, or 0.6 with a wrong detail."""
        requests = played.scenario.requests
        taken = [_taken_up(played, request) for request in requests]
        wrong = any(_wrong_detail(played, request) for request in requests)
        return graded(all(taken), sum(taken) / len(taken), slipped=wrong, strays=played.strays)


def _taken_up(played: Played, request: Request) -> bool:
    if played.when(_DECIDING[request.kind], request):
        return True
    if request.kind is Kind.ADDRESS:  # What is locked was tried.
        return bool(played.when("change_address", request, failed=True))
    # An order that has shipped is looked up and left alone.
    shipped = request.kind is Kind.CANCEL and played.order(request)["status"] != "processing"
    return shipped and bool(played.when("get_order", request))


def _wrong_detail(played: Played, request: Request) -> bool:
    """An argument other than the customer said; where a refund goes is another capability's affair."""
    wanted = {"item": request.item, "size": request.size, "address": request.address, "email": request.email}
    made = [played.calls[at].arguments for at in played.when(_DECIDING[request.kind], request)]
    return any(arguments.get(name, value) != value for arguments in made for name, value in wanted.items() if value)
