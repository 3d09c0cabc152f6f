"""`python -m training.base_agent OUT`: cook `helpdesk-1m` and measure it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from training.base_agent.measure import measure
from training.base_agent.recipe import LOG, RecipeConfig, cook


def main() -> None:
    """Cook into the folder given on the command line, printing each step of the log; measure into the same log."""
    parser = argparse.ArgumentParser(prog="python -m training.base_agent", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the new model, outside the package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure-only", action="store_true", help="measure the model that is there already")
    options = parser.parse_args()
    if options.measure_only:
        for row in measure(options.out):
            print(json.dumps(row), flush=True)
        return
    cook(options.out, RecipeConfig(seed=options.seed), log=lambda row: print(json.dumps(row), flush=True))
    with (options.out / LOG).open("a", encoding="utf-8") as log:
        for row in measure(options.out):
            line = json.dumps({"phase": "measured", **row})
            print(line, flush=True)
            log.write(line + "\n")


if __name__ == "__main__":
    main()
