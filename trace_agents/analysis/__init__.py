"""Contrastive capability analysis (§3.3): the statement grammar, the analyst seam, and the statistical analyst."""

from trace_agents.analysis.analyst import Analyst, Discovered, RunLabels
from trace_agents.analysis.results import Analysis, Candidate, CapabilitiesArtifact, Evidence, LabelRow
from trace_agents.analysis.statements import Finding, Statement, statement_from

__all__ = [
    "Analysis",
    "Analyst",
    "Candidate",
    "CapabilitiesArtifact",
    "Discovered",
    "Evidence",
    "Finding",
    "LabelRow",
    "RunLabels",
    "Statement",
    "statement_from",
]
