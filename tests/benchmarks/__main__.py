"""``python -m tests.benchmarks``: the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import logging
import warnings
from itertools import chain

from tests.benchmarks.report import (
    DIRECT_HEAD,
    HOOK_HEAD,
    HOOK_SIZES,
    SIZES,
    measure_direct,
    measure_hook,
    say,
    table,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; medians are printed")
    parser.add_argument("--smallest", action="store_true", help="only the smallest markets")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # PyPSA's own, of what will change
    logging.disable(logging.WARNING)
    count = 1 if options.smallest else None
    direct = (measure_direct(size, options.repeat) for size in SIZES[:count])
    hook = (measure_hook(size, options.repeat) for size in HOOK_SIZES[:count])
    say(table(DIRECT_HEAD, chain.from_iterable(direct)))
    say([""])
    say(table(HOOK_HEAD, chain.from_iterable(hook)))


if __name__ == "__main__":
    main()
