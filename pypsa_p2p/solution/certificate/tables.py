"""What PyPSA's tables hold besides decisions, and follows from them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pypsa
import xarray as xr

from pypsa_p2p.common.names import NAME
from pypsa_p2p.common.tables import dynamic_values, first_scenario
from pypsa_p2p.network.market_data import MarketData
from pypsa_p2p.network.ownership import bus_columns
from pypsa_p2p.solution.certificate.scale import Scale, relative


def what_follows(n: pypsa.Network, data: MarketData, scale: Scale, *, lossy: bool) -> float:
    r"""How far tables are from what decisions make of them, which results and users read.

    .. math:: p = p^{dispatch} - p^{store} \qquad p^k = -\eta_k \, p^0 \qquad p^1 = -p^0

    of storage units; of Links that are no trades, at all ends where nothing arrives later; and of
    Lines and Transformers.

    Parameters
    ----------
    lossy : bool
        Whether PyPSA was asked for what Lines lose, of which p0 and p1 bear half each.
    """
    gaps = [_of_storage(n, data), *_of_links(n, data)]
    if not lossy:
        gaps.extend(_of_passive(n, data))
    return max(relative(gap, scale.power) for gap in gaps)


def _of_storage(n: pypsa.Network, data: MarketData) -> xr.DataArray:
    names = data.names("StorageUnit")
    power, dispatch, store = (
        dynamic_values(n, "StorageUnit", attribute, names, data.snapshots)
        for attribute in ("p", "p_dispatch", "p_store")
    )
    return power - (dispatch - store)


def _of_links(n: pypsa.Network, data: MarketData) -> Iterator[xr.DataArray]:
    names, sns = data.names("Link"), data.snapshots
    sent = dynamic_values(n, "Link", "p0", names, sns)
    again = n.c["Link"].dynamic.get("p", pd.DataFrame())  # of PyPSA 1.4 on
    if not again.empty:
        yield dynamic_values(n, "Link", "p", names, sns) - sent
    static = first_scenario(n, "Link").reindex(names)
    for column in bus_columns(static):
        end = column.removeprefix("bus")
        if end == "0":
            continue
        number = "" if end == "1" else end  # PyPSA's names of the second end have none
        at_once = static.get(f"delay{number}", pd.Series(0.0, names)).fillna(0.0) == 0.0
        used = names[((static[column].fillna("") != "") & at_once).to_numpy(bool)]
        efficiency = dynamic_values(n, "Link", f"efficiency{number}", used, sns, 1.0)
        arriving = dynamic_values(n, "Link", f"p{end}", used, sns)
        yield arriving + efficiency * sent.sel({NAME: used})


def _of_passive(n: pypsa.Network, data: MarketData) -> Iterator[xr.DataArray]:
    for component in sorted(n.passive_branch_components):
        names = data.names(component)
        sent, arriving = (
            dynamic_values(n, component, end, names, data.snapshots) for end in ("p0", "p1")
        )
        yield sent + arriving
