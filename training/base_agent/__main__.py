"""`python -m training.base_agent OUT`: cook `helpdesk-1m` and measure it."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.base_agent.measure import measure
from training.base_agent.recipe import RecipeConfig, cook


def main() -> None:
    """Cook into the folder given on the command line, printing each step of the log."""
    parser = argparse.ArgumentParser(prog="python -m training.base_agent", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the new model, outside the package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure-only", action="store_true", help="measure the model that is there already")
    options = parser.parse_args()
    if not options.measure_only:
        cook(options.out, RecipeConfig(seed=options.seed), log=print)
    for row in measure(options.out):
        print(row)


if __name__ == "__main__":
    main()
