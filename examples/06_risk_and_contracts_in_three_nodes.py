"""What risk attitudes do to a community and what contracts repair: the paper's Tables I and III.

Three prosumers, three equally probable scenarios; data of MODEL.md, section 9, with reciprocity an
equality. Designs, by column, in two variants: only node 0 generates, and all nodes do (10 MW each).

RN        all prosumers are risk-neutral
RA        all have the attitude of the least averse one
RA dev.   as RA, but node 2 departs to her own attitude
RH        everybody has her own attitude, without contracts
contracts as RH, with contracts at the clearing price: the column the paper should have printed
printed   the same contracts at the paper's price, p/(1 - min chi) in every scenario: the sum is
          the same, but who gains from contracts is not (docs/errata.md, point 4)

The paper's own data are not published, so its numbers cannot be repeated. What it says of them can
be looked at here: one line for each claim, "holds" or "does not hold here".
"""

import logging

import numpy as np
import pandas as pd
import pypsa

import pypsa_p2p as p2p

logging.getLogger("linopy").setLevel(logging.WARNING)  # no report of every solve

own = p2p.load_grid("three_node").buses.xs("0", level="scenario")["risk_attitude"]
own = own[["0", "1", "2"]]
least = float(own.min())
DEVIATING = {"0": least, "1": least, "2": float(own["2"])}


def market(risk: p2p.CVaR | None, contracts: p2p.Contracts | None = None) -> p2p.PeerToPeerMarket:
    """A peer-to-peer market in which nothing is sold outside the community."""
    return p2p.PeerToPeerMarket(risk=risk, contracts=contracts, surplus=False)


DESIGNS = {
    "RN": market(None),
    "RA": market(p2p.CVaR(attitude=least)),
    "RA dev.": market(p2p.CVaR(attitude=DEVIATING)),
    "RH": market(p2p.CVaR()),
    "contracts": market(p2p.CVaR(), p2p.Contracts()),
    "printed": market(p2p.CVaR(), p2p.Contracts(price="paper")),
}


def everybody_generates() -> pypsa.Network:
    """The three-node market with generation of up to 10 MW at nodes 1 and 2 as well."""
    n = p2p.load_grid("three_node")
    flexible = n.generators["carrier"] == "flexible generation"
    n.generators.loc[flexible, ["p_nom", "p_max_pu"]] = [10.0, 1.0]
    return n


def solved(n: pypsa.Network) -> dict[str, pypsa.Network]:
    """A copy of the network solved with each design."""
    networks = {name: n.copy() for name in DESIGNS}
    for name, design in DESIGNS.items():
        design.optimize(networks[name])
    return networks


def least_averse(cost: np.ndarray) -> float:
    """CVaR of costs by scenario, EUR, at the least attitude: its tail holds two scenarios whole.

    Each of the two weighs p / (1 - chi); what is left of 1 falls to the best scenario.
    """
    weight = (1 / 3) / (1 - least)
    return float(np.sort(cost) @ [1 - 2 * weight, weight, weight])


def claims(table: pd.DataFrame, common: float) -> dict[str, tuple[bool, str]]:
    """What the paper says of Tables I and III, whether it is so here, and the number.

    `common` is the CVaR of the community's cost at the least attitude. Costs hold no payments for
    energy, so that who gains is said as the paper's tables say it, not in bills.
    """
    total = table.loc["sum"]
    gain = (table["RH"] - table["contracts"]).drop("sum")
    gain_printed = (table["RH"] - table["printed"]).drop("sum")
    order = total[["RN", "RA", "RA dev.", "RH"]]
    return {
        "more aversion costs the community more: RN <= RA <= RA dev. <= RH": (
            bool((order.diff().dropna() >= -1e-6).all()),
            " <= ".join(order.map("{:.4f}".format)),
        ),
        "contracts cost it no more than RA, and no less than RN": (
            bool(total["RN"] <= total["contracts"] <= total["RA"]),
            f"{total['contracts']:.4f}",
        ),
        "with contracts its cost is the CVaR of the least averse prosumer": (
            bool(abs(total["contracts"] - common) < 1e-6),
            f"{common:.4f}",
        ),
        "Proposition 7: one attitude for all is the CVaR of the sum, (24) = (28)": (
            bool(abs(total["RA"] - common) < 1e-6),
            f"(28) is {total['RA'] - common:.4f} above (24)",
        ),
        "every prosumer gains from contracts, at the clearing price": (
            bool((gain > 0).all()),
            f"least: {gain.min():.4f} to node {gain.idxmin()}",
        ),
        "every prosumer gains from contracts, at the price as printed": (
            bool((gain_printed > 0).all()),
            f"least: {gain_printed.min():.4f} to node {gain_printed.idxmin()}",
        ),
    }


#: Which claims hold, in their order; the same in both variants.
EXPECTED = [True, True, True, False, False, False]

variants = {"node 0 generates": p2p.load_grid("three_node"), "all generate": everybody_generates()}
for variant, n in variants.items():
    networks = solved(n)
    table = pd.DataFrame(
        {name: p2p.results(m).risk_adjusted_cost.to_series() for name, m in networks.items()}
    )
    table.loc["sum"] = table.sum()
    print(f"\nRisk-adjusted costs R (EUR), {variant}:\n{table.round(4).to_string()}")
    total = table.loc["sum"]

    neutral, hedged = p2p.results(networks["RN"]), p2p.results(networks["contracts"])
    judged = claims(table, least_averse(neutral.cost.sum("prosumer").to_numpy()))
    for claim, (holds, number) in judged.items():
        print(f"{'holds' if holds else 'does not hold here'}: {claim} ({number})")
    assert [holds for holds, _ in judged.values()] == EXPECTED

    # The paper's price only moves money, and makes some prosumers look worse off than they are.
    np.testing.assert_allclose(total["printed"], total["contracts"], atol=1e-6)
    moved = table.loc[["0", "1", "2"], "printed"] - table.loc[["0", "1", "2"], "contracts"]
    assert moved.abs().max() > 0.01

    # With contracts nothing physical depends on risk: the dispatch is that of the neutral market.
    np.testing.assert_allclose(hedged.demand, neutral.demand, atol=1e-5)

    if variant == "node 0 generates":  # published optima (MODEL.md, section 9)
        expected = {"RN": 7.6102899, "RA": 8.2748992, "RH": 13.9771248, "contracts": 8.0748864}
        np.testing.assert_allclose(total[list(expected)], list(expected.values()), atol=1e-6)
