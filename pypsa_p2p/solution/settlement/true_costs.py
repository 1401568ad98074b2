"""What an outcome of reported targets really costs: consumption held against the true ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.errors import DataError, MarketError, listed
from pypsa_p2p.common.names import ELASTIC_DEMAND_CARRIER, NAME, PROSUMER, SCENARIO
from pypsa_p2p.common.tables import Numbers, carrier_names, dynamic_numbers
from pypsa_p2p.markets.record import recorded
from pypsa_p2p.network.assets import sum_by_owner
from pypsa_p2p.network.checksums import changed_inputs
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.reading import read_market
from pypsa_p2p.solution.results import read_accounts

#: Data in which a network of reports differs from that of the true targets.
_REPORTED = frozenset(
    {"p_set of Load", "p_nom of Generator", "p_min_pu of Generator", "p_max_pu of Generator"}
)


def with_true_targets(n: pypsa.Network, m: pypsa.Network, settled: xr.Dataset) -> xr.Dataset:
    r"""What was settled of `m`, at the true targets of `n` (MODEL.md §11).

    Utility is that of what is consumed, D of `m`, against :math:`D^*` of `n`: where reports are r
    above the truth, elastic demand gives up p - r in truth where it gives up p by the report.

    Parameters
    ----------
    n, m : Network
        Alike but for targets (and limits of elastic demand around them); `m` solved.
    settled : Dataset
        `settle` of `m`.

    Raises
    ------
    DataError
        The networks differ in more than targets.
    MarketError
        Who reports has not one elastic demand.
    """
    accounts, settings = read_accounts(m), recorded(m)
    data = read_market(n, accounts.data.snapshots, grid=settings["delivery"] == "grid")
    changed = changed_inputs(n, data, settings["delivery"], settings.get("inputs", {}))
    other = [name for name in changed if name not in _REPORTED]
    if other:
        raise DataError(
            f"The networks differ in {listed(other)}: settle(n, m) compares networks that are "
            "alike but for target demand; take m = report(n, g)."
        )
    more = _forgone_in_truth(n, m, data) - _forgone_as_reported(m, data)
    hours = data.weighting.to_numpy()[:, None]
    correction = (more * hours).sum(axis=1)
    cost = accounts.costs(accounts.trades())["cost"] + correction
    net_cost = settled["net_cost"].transpose(SCENARIO, PROSUMER)
    found = settled.assign(
        net_cost=net_cost.copy(data=net_cost.to_numpy() + correction),
        cost=net_cost.copy(data=cost),
    )
    found["net_cost"].attrs = {"unit": "EUR", "long_name": "cost and payment, at the true target"}
    found["cost"].attrs = {"unit": "EUR", "long_name": "the paper's Pi, at the true target"}
    return found


def _forgone_as_reported(m: pypsa.Network, data: MarketData) -> Numbers:
    """Utility given up by the reports, (S, T, N), EUR/h."""
    shape = len(data.scenarios), len(data.snapshots), len(data.prosumers)
    return _forgone(m, m, data, np.zeros(shape))


def _forgone_in_truth(n: pypsa.Network, m: pypsa.Network, data: MarketData) -> Numbers:
    """Utility given up in truth, (S, T, N), EUR/h."""
    names = data.names("Load")
    reported, true = (dynamic_numbers(of, "Load", "p_set", names, data.snapshots) for of in (m, n))
    owner = data.prosumers.get_indexer(pd.Index(data.owner_of("Load").to_numpy()))
    beyond = sum_by_owner(reported - true, owner, len(data.prosumers))
    return _forgone(n, m, data, beyond)


def _forgone(n: pypsa.Network, m: pypsa.Network, data: MarketData, beyond: Numbers) -> Numbers:
    """Utility that elastic demand gives up of targets that are by so much less than in `m`."""
    elastic = data.names("Generator").intersection(
        carrier_names(n, "Generator", ELASTIC_DEMAND_CARRIER), sort=False
    )
    whose = data.prosumers.get_indexer(
        pd.Index(data.owner_of("Generator").sel({NAME: elastic}).to_numpy())
    )
    _require_one(data, whose, beyond)
    given_up = dynamic_numbers(m, "Generator", "p", elastic, data.snapshots)
    power = given_up - beyond[..., whose]
    linear, square = (
        dynamic_numbers(n, "Generator", attribute, elastic, data.snapshots)
        for attribute in ("marginal_cost", "marginal_cost_quadratic")
    )
    return sum_by_owner(linear * power + square * power**2, whose, len(data.prosumers))


def _require_one(data: MarketData, whose: Numbers, beyond: Numbers) -> None:
    """Refuse reports of who has not one elastic demand: nothing tells what she gives up."""
    reports = (beyond != 0).any(axis=(0, 1))
    bad = data.prosumers[reports & (np.bincount(whose, minlength=len(reports)) != 1)]
    if len(bad):
        raise MarketError(
            f"Prosumer {listed(bad)} reports another target, but has not one elastic demand, whose "
            "utility it is: add prosumers with add_prosumers(n, ..., utility_quadratic=...)."
        )
