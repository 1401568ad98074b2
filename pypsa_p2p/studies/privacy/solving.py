"""The equilibrium of private reports, and what privacy costs everybody (MODEL.md §11)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.names import PROSUMER, SCENARIO, SNAPSHOT
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.common.values import require_network
from pypsa_p2p.markets.base import Market
from pypsa_p2p.studies.privacy.certificate import Chosen, exploitability
from pypsa_p2p.studies.privacy.costs import (
    cost_of_deviations,
    cost_of_others_noise,
    cost_of_own_noise,
    price_variance,
)
from pypsa_p2p.studies.privacy.deviations import distance_price, equilibrium_deviations
from pypsa_p2p.studies.privacy.noise import (
    gaussian_loss,
    gaussian_noise,
    laplace_loss,
    laplace_noise,
)
from pypsa_p2p.studies.privacy.options import GIVEN, PrivateReports
from pypsa_p2p.studies.privacy.price_noise import needed_variance, shared_noise
from pypsa_p2p.studies.privacy.sampling import sampled_costs
from pypsa_p2p.studies.privacy.truth import Truth, truth_of

EVERYWHERE: Final = (SCENARIO, SNAPSHOT, PROSUMER)
_EACH: Final = (PROSUMER,)
_DESCRIBED: Final[dict[str, tuple[tuple[str, ...], str, str]]] = {
    "deviation": (EVERYWHERE, "MW", "deterministic part of the report less the true target"),
    "noise_variance": (EVERYWHERE, "MW2", "variance of the random part of the report"),
    "distance_price": (EVERYWHERE, "EUR/MW", "what a MW more of distance is worth now"),
    "privacy_loss": (_EACH, "1", "expected privacy loss, over all scenarios and snapshots"),
    "privacy_price": (_EACH, "EUR", "what a unit less of loss costs her"),
    "truthful_cost": (_EACH, "EUR", "expected cost and payments with true reports"),
    "expected_cost": (_EACH, "EUR", "expected cost and payments, at her true target"),
    "by_deviation": (_EACH, "EUR", "part of the difference that all deviations make"),
    "by_noise": (_EACH, "EUR", "part that her own noise makes"),
    "from_others": (_EACH, "EUR", "part that the others' noise makes"),
    "exploitability": (_EACH, "EUR", "most she could save by another report, alone"),
    "price_variance": ((SCENARIO, SNAPSHOT), "(EUR/MWh)2", "variance of every nodal price"),
    "social_cost": ((), "EUR", "sum of expected costs"),
    "truthful_social_cost": ((), "EUR", "sum of truthful costs"),
    "sampled_cost": (_EACH, "EUR", "mean over drawn reports whose markets were solved"),
    "sampling_error": (_EACH, "EUR", "its standard error"),
    "beyond_formula": (_EACH, "EUR", "mean over the same draws of market less closed form (P1)"),
}
_SHARED_PRICE: Final = ("EUR/MW2", "what a MW2 more of noise behind the price costs, one for all")


def solve_reports(
    n: pypsa.Network,
    market: Market,
    reports: PrivateReports,
    *,
    samples: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    r"""Find the equilibrium of private reports to a market, and what privacy costs (MODEL.md §11).

    Everybody chooses a deviation and the variance of a noise that she adds to her target demand;
    the market is solved on the reports, and she consumes what it gives her. The closed forms are
    ours, a reconstruction from the abstract of Shilov, Le Cadre and Bušić, *Privacy Impact on
    Generalized Nash Equilibrium in Peer-to-Peer Electricity Market* (2021).

    Parameters
    ----------
    n : pypsa.Network
        With the true targets, solved or not; it stays as it is.
    market : PeerToPeerMarket or CentralizedMarket
        Risk-neutral, ``surplus=False``.
    reports : PrivateReports
    samples : int
        So many reports are drawn, and the market solved on each, to check the closed form: worth
        it where limits bind, or noise may reach one.
    seed : int
        Of these draws.

    Returns
    -------
    xarray.Dataset
        By scenario, snapshot and prosumer ``deviation`` (MW), ``noise_variance`` (MW2) and
        ``distance_price`` (EUR/MW); by prosumer ``privacy_loss``, ``privacy_price``, and, in EUR,
        ``truthful_cost``, ``expected_cost`` and its parts ``by_deviation``, ``by_noise`` and
        ``from_others``, and ``exploitability``, most that she could save by another report while
        the others keep theirs, 0 at an equilibrium; ``price_variance`` by scenario and snapshot;
        ``social_cost`` and ``truthful_social_cost``. With `samples` also ``sampled_cost``,
        ``sampling_error`` and ``beyond_formula``. ``attrs["local"]`` is 1 where a limit of demand
        or generation binds at the truth: then the closed form holds as long as the same limits do.

    Raises
    ------
    MarketError
        Anything for which the closed form is not exact, by name: risk, contracts, surplus,
        congestion, fees, grids, retail, storage, investment, linear costs at the margin, trades at
        their capacity; too little `most_noise`; demand at a limit in some hours and not in others,
        since noise in the first would cost nothing.

    Notes
    -----
    Deviations at equilibrium are unique. So is noise where everybody sees every report; where only
    prices are seen, it is the variational equilibrium, in which the cheapest noise comes first:
    unique unless two prosumers' costs of it are equal. Whose demand is at a limit in every hour
    says whatever she likes: she does not deviate, and her noise, which costs nobody anything, is
    what her loss asks for.

    Examples
    --------
    >>> import pypsa, pypsa_p2p as p2p
    >>> n = pypsa.Network()
    >>> p2p.add_prosumers(n, ["a", "b", "c"], demand=[4, 6, 2], demand_max=20, demand_min=-20,
    ...                   utility_quadratic=5, generation_max=[0, 0, 20], marginal_cost=10,
    ...                   marginal_cost_quadratic=1)
    >>> p2p.add_trades(n, "complete", capacity=50)
    >>> reports = p2p.PrivateReports(loss=1.0, sensitivity=0.2, distance=0.1)
    >>> g = p2p.solve_reports(n, p2p.PeerToPeerMarket(surplus=False), reports)
    >>> (g.expected_cost - g.truthful_cost).round(4).values
    array([-0.0898, -0.3398,  0.8359])
    >>> g.privacy_price.round(4).values
    array([0.0984, 0.0984, 0.0906])
    """
    require_network(n)
    if not isinstance(reports, PrivateReports):
        raise MarketError(f"reports must be PrivateReports(...), not {shown(reports)}.")
    Range(0, whole=True).require("solve_reports: samples", samples)
    Range(0, whole=True).require("solve_reports: seed", seed)
    truth = truth_of(n, market)
    chosen = _chosen(truth, reports)
    g = _labelled(truth, _figures(truth, chosen, reports), reports)
    if samples:
        by_market, by_formula = sampled_costs(n, market, truth, g, samples, seed)
        spread = (
            by_market.std(axis=0, ddof=1) if samples > 1 else np.full(by_market.shape[1], np.nan)
        )
        found = {
            "sampled_cost": by_market.mean(axis=0),
            "sampling_error": spread / np.sqrt(samples),
            "beyond_formula": (by_market - by_formula).mean(axis=0),
        }
        g = _described(g.assign({name: (_EACH, values) for name, values in found.items()}))
        g.attrs["samples"] = samples
    return g


def _chosen(truth: Truth, reports: PrivateReports) -> Chosen:
    """The equilibrium: deviations and noise, which do not depend on each other."""
    prosumers, snapshots = truth.data.prosumers, truth.data.snapshots

    def hourly(name: str, kept: Any) -> Numbers:
        values = GIVEN[name].on(kept, snapshots, prosumers).to_numpy()
        return np.asarray(np.broadcast_to(values, truth.net_import.shape))

    loss = GIVEN["loss"].on(reports.loss, prosumers).to_numpy()
    distance = hourly("distance", reports.distance)
    sensitivity = np.where(np.isfinite(loss), hourly("sensitivity", reports.sensitivity), 0.0)
    most = hourly("most_noise", np.inf if reports.most_noise is None else reports.most_noise)
    most = np.where(truth.answers, most, 0.0)
    deviation = equilibrium_deviations(truth, distance)
    needed = None
    cost, far = (_flat(of) for of in (truth.weight * truth.noise_cost, sensitivity))
    if reports.observer == "price":
        needed = needed_variance(far, loss)
        positive = np.where(cost > 0, cost, np.inf)
        variance, one = shared_noise(positive, _flat(most), needed)
        price = np.full(len(prosumers), one)
    else:
        variance, price = _noise_of_own(truth, reports.noise, cost, far, loss)
    return Chosen(
        deviation=deviation,
        distance=distance,
        variance=variance.reshape(truth.net_import.shape),
        sensitivity=sensitivity,
        loss=loss,
        price=price,
        most=most,
        needed=needed,
        noise=reports.noise,
    )


def _noise_of_own(
    truth: Truth, noise: str, cost: Numbers, sensitivity: Numbers, loss: Numbers
) -> tuple[Numbers, Numbers]:
    """Everybody's cheapest noise, (S T, N), MW2, and her price of privacy, (N,)."""
    hidden = (sensitivity > 0).any(axis=0)
    heard = _flat(truth.answers)
    never = ~(heard & (sensitivity > 0)).any(axis=0)
    mixed = ~never & (~heard & (sensitivity > 0)).any(axis=0)
    torn = truth.data.prosumers[np.asarray(mixed)]
    if len(torn):
        raise MarketError(
            f"Demand of {listed(torn)} is at a limit in some hours and not in others: "
            "noise costs nothing in the first, and no finite one is best. Widen "
            "demand_min or demand_max, set sensitivity to 0 in those hours, or look at hours one "
            "by one."
        )
    hours = np.broadcast_to(_flat(np.broadcast_to(truth.weight, truth.answers.shape)), cost.shape)
    least = gaussian_noise if noise == "gaussian" else laplace_noise
    whose = np.flatnonzero(hidden)
    asked = np.where(never | (cost <= 0), hours, cost)
    variance, price = np.zeros_like(cost), np.zeros(cost.shape[1])
    variance[:, whose], price[whose] = least(asked[:, whose], sensitivity[:, whose], loss[whose])
    return variance, np.where(never, 0.0, price)


def _figures(truth: Truth, chosen: Chosen, reports: PrivateReports) -> dict[str, Numbers]:
    """Every variable of the dataset."""
    parts = {
        "by_deviation": cost_of_deviations(truth, chosen.deviation),
        "by_noise": cost_of_own_noise(truth, chosen.variance),
        "from_others": cost_of_others_noise(truth, chosen.variance),
    }
    expected = truth.cost + sum(parts.values())
    seen = chosen.variance
    if reports.observer == "price":
        seen = np.broadcast_to(seen.sum(axis=-1, keepdims=True), seen.shape)
    lost = gaussian_loss if reports.noise == "gaussian" else laplace_loss
    return {
        "deviation": chosen.deviation,
        "noise_variance": chosen.variance,
        "distance_price": distance_price(truth, chosen.deviation, chosen.distance),
        "privacy_loss": lost(seen, chosen.sensitivity).sum(axis=(0, 1)),
        "privacy_price": chosen.price,
        "truthful_cost": truth.cost,
        "expected_cost": expected,
        **parts,
        "exploitability": exploitability(truth, chosen),
        "price_variance": price_variance(truth, chosen.variance),
        "social_cost": expected.sum(),
        "truthful_social_cost": truth.cost.sum(),
    }


def _labelled(truth: Truth, figures: dict[str, Numbers], reports: PrivateReports) -> xr.Dataset:
    data = truth.data
    g = xr.Dataset(
        {name: (_DESCRIBED[name][0], values) for name, values in figures.items()},
        coords={SCENARIO: data.scenarios, SNAPSHOT: data.snapshots, PROSUMER: data.prosumers},
        attrs={"noise": reports.noise, "observer": reports.observer, "local": int(truth.local)},
    )
    return _described(g)


def _described(g: xr.Dataset) -> xr.Dataset:
    """With units and meanings."""
    for name in g.data_vars:
        _, unit, meaning = _DESCRIBED[str(name)]
        if name == "privacy_price" and g.attrs["observer"] == "price":
            unit, meaning = _SHARED_PRICE
        g[name].attrs = {"unit": unit, "long_name": meaning}
    return g


def _flat(hourly: Numbers) -> Numbers:
    """(S, T, N) as (S T, N)."""
    return np.asarray(hourly.reshape(-1, hourly.shape[-1]))
