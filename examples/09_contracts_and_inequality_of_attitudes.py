"""Do unequal risk attitudes make prosumers trade more contracts? The paper's Figures 3 and 4.

On the IEEE 14-bus market, attitudes are drawn with mean 0.5 and a given Gini index, trade prices
by the paper's two rules: uniform, or drawn anew from [0, 1], and from [1, 2] for buying from P1 at
the grid connection. 200 draws per point, in two processes: long. Points are kept in the folder
`points`, so that a second run, or one after an interruption, takes from there what it has. With
--fast: two draws at three points, 0, 0.01 and 0.3.

What the picture shows is a jump at 0. As soon as attitudes differ at all, everybody but the least
averse prosumer is fully insured: her cost after contracts is the same in all scenarios in which a
EUR costs anything, and the least averse bears what risk there is. With equal attitudes nobody has
more to gain from being insured than another, and the fewest contracts that share the risk leave
most of it where it is. Beyond the jump contracts grow by less, not at every step, and for another
reason: with the mean held fixed, the least averse is the less averse the more unequal attitudes
are, and covers others in more scenarios. (Median of six draws at uniform prices: 1,620 EUR at an
index of 0, 13,400 at 0.01, 18,500 at 0.1, 17,800 at 0.15, 19,700 at 0.3.) The paper's data are not
published; "holds" and "does not hold here" are said of these.
"""

import logging
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pypsa
import xarray as xr

import pypsa_p2p as p2p
from pypsa_p2p.network.scenarios.sampling import draw_trade_prices

PROSUMERS = [f"P{k}" for k in range(1, 15)]
MEAN = 0.5


def attitudes(gini: float, draw: int) -> pd.Series:
    """Attitudes with mean 0.5 and a Gini index, G = sum |x_i - x_j| / (2 N^2 mean)."""
    rng = np.random.default_rng(draw)
    while True:
        z = rng.uniform(-1.0, 1.0, len(PROSUMERS))
        z -= z.mean()
        difference = np.abs(z[:, None] - z[None]).mean() / (2 * MEAN)
        drawn = MEAN + gini / difference * z
        if drawn.min() >= 0.0 and drawn.max() <= 0.98:
            return pd.Series(drawn, index=PROSUMERS)


def market(point: dict[str, float | str]) -> p2p.PeerToPeerMarket:
    """The market of a point, with the attitudes drawn for it."""
    own = attitudes(float(point["gini"]), int(point["draw"]))
    return p2p.PeerToPeerMarket(risk=p2p.CVaR(attitude=own), contracts=p2p.Contracts())


def drawn(n: pypsa.Network, point: dict[str, float | str]) -> None:
    """Give the network the trade prices of a rule and a draw."""
    trades = n.links["carrier"] == "p2p"
    ends = n.links.loc[trades, ["bus0", "bus1"]].drop_duplicates()
    edges = list(ends.itertuples(index=False, name=None))
    price = draw_trade_prices(
        edges, rule=str(point["prices"]), seed=int(point["draw"]), grid_connection="P1"
    )
    for column in ("price0", "price1"):
        n.links.loc[trades, column] = np.tile(price[column], len(n.scenarios))


def picture(d: xr.Dataset, file: Path) -> None:
    """Median and middle 80 % of the draws over the Gini index, a panel for each rule of prices."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415  after the backend is chosen

    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.6), layout="constrained", sharey=True)
    for ax, rule in zip(axes, d.prices.values, strict=True):
        low, middle, high = d.contracts_traded.sel(prices=rule).quantile([0.1, 0.5, 0.9], "draw")
        unequal = d.gini > 0
        style = {"color": "#0072b2", "marker": "o", "markersize": 3}
        ax.fill_between(d.gini[unequal], low[unequal], high[unequal], color="#0072b2", alpha=0.25,
                        linewidth=0, label="10 % to 90 % of draws")  # fmt: skip
        ax.plot(d.gini[unequal], middle[unequal], **style, label="median")
        ax.plot(d.gini[~unequal], middle[~unequal], **style, markerfacecolor="white",
                linestyle="none", label="attitudes all equal")  # fmt: skip
        ax.set_title(f"{rule} prices", fontsize=8)
        ax.set_xlabel("Gini index of risk attitudes", fontsize=7)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("Contracts traded (EUR, all scenarios)", fontsize=7)
    axes[0].legend(fontsize=7, frameon=False, loc="lower right")
    figure.savefig(file, dpi=300)


def at_risk(d: xr.Dataset) -> xr.DataArray:
    """Prosumers whose cost after contracts differs by over 1 EUR between scenarios with a price."""
    held = (d.cost - d.contract).where(d.contract_price > 1e-6)
    return held.max("scenario") - held.min("scenario") > 1.0


def claims(d: xr.Dataset) -> dict[str, tuple[bool, str]]:
    """What the paper's figures say, whether it is so here, and the number (of uniform prices)."""
    median = d.contracts_traded.median("draw").sel(prices="uniform")
    equal, first, last = (float(median.sel(gini=g)) for g in (0.0, 0.01, 0.3))
    share = (first - equal) / (last - equal)
    return {
        "more unequal attitudes, more contracts: at a Gini index of 0.3 more than at 0": (
            last > equal,
            f"{equal:.0f} and {last:.0f} EUR",
        ),
        "that is the effect of how unequal attitudes are, not of their differing at all": (
            share < 0.1,
            f"{share:.0%} of it is there at an index of 0.01, {first:.0f} EUR",
        ),
    }


def main(fast: bool) -> None:
    """Sweep, draw, and check what must hold."""
    logging.getLogger("pypsa").setLevel(logging.ERROR)
    over = {
        "prices": ["uniform", "heterogeneous"],
        "gini": [0.0, 0.01, 0.3] if fast else [0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3],
        "draw": range(2 if fast else 200),
    }
    d = p2p.sweep(
        p2p.load_grid("ieee14", market=True),
        market,
        over,
        apply={("prices", "draw"): drawn},  # whatever the Gini index: one network for all of them
        store="points",
        workers=1 if fast else 2,
    )
    d.to_netcdf("contracts_and_inequality.nc")
    picture(d, Path("contracts_and_inequality.png"))
    quantiles = d.contracts_traded.quantile([0.1, 0.5, 0.9], "draw")
    print(quantiles.to_dataframe().unstack("quantile").round(0))

    assert (d.error == "").all()
    np.testing.assert_allclose(d.contract.sum("prosumer"), 0.0, atol=1e-3)

    bearing = at_risk(d)
    print("Prosumers still at risk:", bearing.sum("prosumer").max("draw").to_pandas(), sep="\n")
    judged = claims(d)
    for claim, (holds, number) in judged.items():
        print(f"{'holds' if holds else 'does not hold here'}: {claim} ({number})")
    assert [holds for holds, _ in judged.values()] == [True, False]

    # Unequal, and one bears all risk: the least averse. Equal, and almost everybody bears some.
    assert (bearing.sel(gini=0.0).sum("prosumer") > len(PROSUMERS) / 2).all()
    # (Of many draws, one may have two who are the least averse to within a solver's tolerance.)
    points = [(gini, draw) for gini in d.gini.values[1:] for draw in d.draw.values]
    alone = [
        bool((bearing.sel(gini=g, draw=k) == (bearing.prosumer == attitudes(g, k).idxmin())).all())
        for g, k in points
    ]
    assert np.mean(alone) > 0.9

    # Contracts make the community as averse as its least averse member: with the same energy
    # market, social cost rises with her attitude, whatever the others' are.
    uniform = d.social_cost.sel(prices="uniform").stack(point=("gini", "draw"))
    least = [attitudes(gini, draw).min() for gini, draw in uniform.point.values]
    ordered = uniform.values[np.argsort(least, kind="stable")]
    assert (np.diff(ordered) > -1e-4).all()
    # The more unequal, the less averse she is.
    assert (d.social_cost.mean("draw").diff("gini") < 0).all()


if __name__ == "__main__":
    main(fast="--fast" in sys.argv[1:])
