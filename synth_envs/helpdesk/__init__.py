"""Generator families for the `helpdesk` target, one for each capability that its agent was made to lack."""

from synth_envs.helpdesk.all_requests import AllRequests
from synth_envs.helpdesk.desk import DeskEnvironment, DeskFamily, Mix
from synth_envs.helpdesk.eligibility import Eligibility
from synth_envs.helpdesk.refund_method import RefundMethod
from synth_envs.helpdesk.tell_arrival import TellArrival
from synth_envs.helpdesk.unlock import Unlock

FAMILIES = (Eligibility, RefundMethod, AllRequests, Unlock, TellArrival)

__all__ = [
    "FAMILIES",
    "AllRequests",
    "DeskEnvironment",
    "DeskFamily",
    "Eligibility",
    "Mix",
    "RefundMethod",
    "TellArrival",
    "Unlock",
]
