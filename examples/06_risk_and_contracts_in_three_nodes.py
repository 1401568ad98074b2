"""What risk attitudes do to a community and what contracts repair: the paper's Tables I and III.

Three prosumers, three equally probable scenarios; data of MODEL.md, section 9, with reciprocity an
equality. Designs, by column, in two variants: only node 0 generates, and all nodes do (10 MW each).

RN        all prosumers are risk-neutral
RA        all have the attitude of the least averse one
RA dev.   as RA, but node 2 departs to her own attitude
RH        everybody has her own attitude, without contracts
contracts as RH, with contracts at the clearing price: the column the paper should have printed
printed   the same contracts at the paper's price, p/(1 - min chi) in every scenario: the sum is
          the same, but who gains from contracts is not (MODEL.md, section 8.4)
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


variants = {"node 0 generates": p2p.load_grid("three_node"), "all generate": everybody_generates()}
for variant, n in variants.items():
    networks = solved(n)
    table = pd.DataFrame(
        {name: p2p.results(m).risk_adjusted_cost.to_series() for name, m in networks.items()}
    )
    table.loc["sum"] = table.sum()
    print(f"\nRisk-adjusted costs R (EUR), {variant}:\n{table.round(4).to_string()}")
    total = table.loc["sum"]

    # More aversion costs more; contracts make the community no more averse than its least averse.
    assert (
        total["RN"] <= total["contracts"] <= total["RA"] <= total["RA dev."] <= total["RH"] + 1e-6
    )

    # The paper's price only moves money, and makes some prosumers look worse off than they are.
    np.testing.assert_allclose(total["printed"], total["contracts"], atol=1e-6)
    moved = table.loc[["0", "1", "2"], "printed"] - table.loc[["0", "1", "2"], "contracts"]
    assert moved.abs().max() > 0.01

    # With contracts nothing physical depends on risk: the dispatch is that of the neutral market.
    neutral, hedged = p2p.results(networks["RN"]), p2p.results(networks["contracts"])
    np.testing.assert_allclose(hedged.demand, neutral.demand, atol=1e-5)

    if variant == "node 0 generates":  # published optima (MODEL.md, section 9)
        expected = {"RN": 7.6102899, "RA": 8.2748992, "RH": 13.9771248, "contracts": 8.0748864}
        np.testing.assert_allclose(total[list(expected)], list(expected.values()), atol=1e-6)
