"""``python -m tests.conversions``: writes the table of docs/conversions.md."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pypsa_p2p.network.pandapower.conversion import from_pandapower
from tests.conversions.comparing import (
    TOLERANCE,
    compare_costs,
    compare_power_flows,
    solve_pandapower,
)
from tests.conversions.networks import builders

DOCUMENT = Path(__file__).parents[2] / "docs" / "conversions.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = (
    "| network | buses | start | voltage, p.u. | angle, ° | flow, MW | losses, MW (of) | cost, €/h "
    "| difference of cost |\n|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conversions", description=__doc__)
    parser.add_argument("--large", action="store_true", help="also networks that take minutes")
    parser.add_argument("names", nargs="*", help="only networks whose call begins so")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    chosen = builders(large=options.large or bool(options.names))
    if options.names:
        wanted = tuple(options.names)
        chosen = {call: make for call, make in chosen.items() if call.startswith(wanted)}
    for line in rows(chosen):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        write(line)


def rows(networks: dict[str, Callable[[], Any]]) -> Iterator[str]:
    """A line of the table for every network."""
    for call, make in networks.items():
        try:
            net = make()
        except Exception as error:  # networks that this version of pandapower cannot build
            yield f"| `{call}` | | pandapower cannot build it: {type(error).__name__} |" + " |" * 6
            continue
        for part, each in enumerate(net if isinstance(net, (list, tuple)) else [net]):
            yield row(f"{call}[{part}]" if isinstance(net, (list, tuple)) else call, each)


def row(call: str, net: Any) -> str:
    """Power flow and cost of one network."""
    head = f"| `{call}` | {len(net.bus)} |"
    if solve_pandapower(net):
        flows = compare_power_flows(net, from_pandapower(net))
        losses = f"{_figure(flows.losses)} ({flows.total_losses:.4g})"
        found = (_figure(flows.voltage), _figure(flows.angle), _figure(flows.flow), losses)
        power = f" {flows.start} | " + " | ".join(found) + " |"
        if not flows.converged:
            power = " PyPSA does not converge | | | | |"
    else:
        power = " pandapower does not converge | | | | |"
    return f"{head}{power} {cost(net)} |"


def cost(net: Any) -> str:
    """Cells of the cost and of what PyPSA's differs by; in brackets with shunts as loads."""
    if net.poly_cost.empty and net.pwl_cost.empty:
        return "|"
    costs = compare_costs(net)
    if np.isnan(costs.theirs):
        return "| both fail" if np.isnan(costs.ours) else f"{costs.ours:.3f} | pandapower fails"
    if np.isnan(costs.ours):
        return f"{costs.theirs:.3f} | PyPSA's solver fails"
    text = f"{costs.theirs:.3f} | {_figure(costs.ours - costs.theirs, costs.theirs)}"
    if costs.with_shunts == costs.ours:
        return text
    return f"{text} ({_figure(costs.with_shunts - costs.theirs, costs.theirs)})"


def _figure(value: float, scale: float = 1.0) -> str:
    """A difference, in bold where it is beyond the tolerance (relative to a scale above 1)."""
    text = f"{abs(value):.0e}"
    return text if abs(value) <= TOLERANCE * max(1.0, abs(scale)) else f"**{text}**"


def write(line: str) -> None:
    """Put a line in its place in the document's table, instead of the one it had."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    lines = {_call(old): old for old in table.strip().splitlines()[HEAD.count("\n") + 1 :]}
    lines[_call(line)] = line
    ordered = "\n".join(lines[call] for call in sorted(lines, key=str.lower))
    DOCUMENT.write_text(f"{before}{BEGIN}\n{HEAD}\n{ordered}\n{END}{after}", encoding="utf-8")


def _call(line: str) -> str:
    """The call in the first cell of a line."""
    return line.split("`")[1]


if __name__ == "__main__":
    main()
