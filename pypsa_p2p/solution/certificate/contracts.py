"""Whether contracts and insurance are held as their prices say (MODEL.md §5, §7)."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pypsa_p2p.common.names import PROSUMER, SCENARIO
from pypsa_p2p.solution.certificate.scale import Scale, relative, relative_each
from pypsa_p2p.solution.hedges import RecordedHedges


def contract_residuals(
    hedges: RecordedHedges, tau: xr.DataArray, probability: xr.DataArray, scale: Scale
) -> dict[str, float]:
    """Contracts and insurance are worth their price to everybody who could take more, or less."""
    excess = hedges.worth(tau) - hedges.clearing_price
    if hedges.limit is None:
        apart = relative_each(*xr.broadcast(excess, expected_payout(hedges, probability)))
        residuals = {"contract prices (Corollary 16)": apart}
    else:
        more, less = hedges.limit - hedges.volume, hedges.limit + hedges.volume
        reach = [payable_units(hedges, units, probability, scale) for units in (more, less)]
        missed = (excess.clip(min=0) * reach[0]).where(excess > 0, 0.0)
        missed = missed - (excess.clip(max=0) * reach[1]).where(excess < 0, 0.0)
        beyond = np.minimum(more, less).clip(max=0) * largest_payout(hedges)
        residuals = {
            "contract prices and limits": relative(missed, scale.risk),
            "contract limits": relative(beyond, scale.risk),
        }
    if hedges.payoff is not None:
        paid = (hedges.payoff * hedges.volume).sum(str(hedges.payoff.dims[0]))
        residuals["contracts pay as they say"] = relative(hedges.payout - paid, scale.risk)
    if hedges.insurance_price is not None:
        dear = hedges.insurance_price - tau
        residuals["insurance (Theorem 15)"] = _insurance(dear, hedges, probability, scale)
    return residuals


def expected_payout(hedges: RecordedHedges, probability: xr.DataArray) -> xr.DataArray:
    """What a unit of each contract pays or takes in expectation, EUR; 0 if it never does."""
    if hedges.payoff is None:
        return probability
    return (abs(hedges.payoff) * probability).sum(SCENARIO)


def largest_payout(hedges: RecordedHedges) -> xr.DataArray | float:
    """The most that a unit of each contract pays or takes, EUR."""
    return 1.0 if hedges.payoff is None else abs(hedges.payoff).max(SCENARIO)


def payable_units(
    hedges: RecordedHedges, units: xr.DataArray, probability: xr.DataArray, scale: Scale
) -> xr.DataArray:
    """Units up to a limit, no more than pay all the market's money: limits may be far away."""
    expected = expected_payout(hedges, probability)
    most = (scale.risk / expected.where(expected > 0)).fillna(np.inf)
    reach: xr.DataArray = units.clip(min=0).where(units <= most, most)
    return reach


def _insurance(
    dear: xr.DataArray, hedges: RecordedHedges, probability: xr.DataArray, scale: Scale
) -> float:
    r"""`dear` is :math:`\gamma - \tau \ge 0`; :math:`J \ge 0`, :math:`(\gamma - \tau) J = 0`."""
    return max(
        relative(dear.clip(max=0) / probability, 1.0),
        relative(hedges.insurance.clip(max=0), scale.risk),
        relative(dear * hedges.insurance, scale.risk),
    )


def uncleared(hedges: RecordedHedges, scale: Scale) -> float:
    """What contracts bought and sold, and their payments, do not cancel by, relative."""
    volume = hedges.volume.sum(PROSUMER) * largest_payout(hedges)
    paid = (hedges.volume * hedges.price).sum()
    return max(relative(volume, scale.risk), relative(paid, scale.risk))
