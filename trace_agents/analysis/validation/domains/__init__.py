"""Worlds with planted deficits, none like another: four to work with, two that are looked at last."""

from trace_agents.analysis.validation.domains.archive import ARCHIVE
from trace_agents.analysis.validation.domains.bank import BANK
from trace_agents.analysis.validation.domains.campus import CAMPUS
from trace_agents.analysis.validation.domains.clinic import CLINIC
from trace_agents.analysis.validation.domains.home import HOME
from trace_agents.analysis.validation.domains.warehouse import WAREHOUSE

DOMAINS = (CLINIC, WAREHOUSE, HOME, ARCHIVE)
"""What the analyst was developed with."""
HELD_OUT = (BANK, CAMPUS)
"""Written with the others and kept out of sight until the analyst was finished."""

__all__ = ["DOMAINS", "HELD_OUT"]
