"""τ²-bench: upstream's environments, user simulator and evaluators, behind the house's contract."""

from functools import partial

from mcp_servers.tau2.environment import Tau2Environment, Tau2Episode

airline = partial(Tau2Environment, "airline")
retail = partial(Tau2Environment, "retail")
telecom = partial(Tau2Environment, "telecom")
mock = partial(Tau2Environment, "mock")

__all__ = ["Tau2Environment", "Tau2Episode", "airline", "mock", "retail", "telecom"]
