"""`python -m trace_agents.cli` is `trace-agents`."""

import sys

from trace_agents.cli import main

if __name__ == "__main__":
    sys.exit(main())
