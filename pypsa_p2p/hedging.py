"""Volumes of complete contracts, once costs and prices are known (MODEL.md §5)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import xarray as xr

from pypsa_p2p.errors import ConvergenceError
from pypsa_p2p.names import PROSUMER, SCENARIO
from pypsa_p2p.solvers.program import QuadraticProgram
from pypsa_p2p.solvers.quadratic import solve_quadratic

#: A price this close, relatively, to an end of what a prosumer would pay counts as at it.
_AT_END = 1e-9
#: Costs this close, relative to the largest, are equal: PyPSA's solver may move dispatch a bit.
_EQUAL = (0.0, 1e-9, 3e-9, 1e-8, 1e-7)  # tried in turn


def contract_volumes(
    cost: xr.DataArray,
    price: xr.DataArray,
    probability: xr.DataArray,
    attitude: xr.DataArray,
    weight: float,
) -> xr.DataArray:
    r"""Least-norm volumes W at which every prosumer's risk-adjusted probability is the price.

    .. math:: \min \sum W^2 \quad \text{s.t.} \quad \sum_n W_n^\omega = 0, \quad
        \sum_\omega \alpha^\omega W_n^\omega = 0,

    and, for each prosumer, :math:`\Pi_n^\omega - W_n^\omega` equal to a common level
    :math:`\eta_n` where :math:`\alpha^\omega` lies between the ends of her envelope (37), at
    most :math:`\eta_n` at its lower and at least :math:`\eta_n` at its upper end: then
    :math:`\alpha` maximises :math:`\sum_\omega \tau_n^\omega (\Pi_n^\omega - W_n^\omega)`.

    Parameters
    ----------
    cost : DataArray (scenario, prosumer)
        EUR.
    price, probability : DataArray (scenario)
    attitude : DataArray (prosumer)
    weight : float

    Returns
    -------
    DataArray (scenario, prosumer)
        W, EUR paid to the prosumer in the scenario (negative: by her).
    """
    cost = cost.transpose(SCENARIO, PROSUMER)
    low = (1 - weight) * probability
    high = low + weight * probability / (1 - attitude)
    at_low = (price <= low + _AT_END * probability).broadcast_like(cost).to_numpy()
    at_high = (price >= high - _AT_END * probability).transpose(*cost.dims).to_numpy()
    arrays = (cost.to_numpy(), price.to_numpy(), at_low, at_high)
    for tolerance in _EQUAL:
        found = solve_quadratic(_program(*arrays, tolerance))
        if found.status == "optimal":
            break
    if found.status != "optimal":
        raise ConvergenceError(
            "No contract volumes reproduce the contract prices; the solution's prices and costs "
            "do not fit each other. Solve the market again."
        )
    return cost.copy(data=found.x[: cost.size].reshape(cost.shape))


def _program(
    cost: np.ndarray, price: np.ndarray, at_low: np.ndarray, at_high: np.ndarray, tolerance: float
) -> QuadraticProgram:
    """The program above in columns (W by scenario and prosumer, eta by prosumer), scaled."""
    scenarios, prosumers = cost.shape
    one_s, one_n = np.ones((1, scenarios)), np.ones((1, prosumers))
    eye_s, eye_n = sp.identity(scenarios), sp.identity(prosumers)
    clearing = sp.kron(eye_s, one_n)
    premium = sp.kron(price[None], eye_n)
    level = sp.hstack([sp.identity(cost.size), sp.kron(one_s.T, eye_n)])  # W + eta vs Pi
    rows = sp.vstack([_padded(clearing, prosumers), _padded(premium, prosumers), level])
    flat = cost.ravel()
    equal = tolerance * max(1.0, float(np.abs(flat).max()))
    none = np.zeros(scenarios + prosumers)
    size = cost.size + prosumers
    return QuadraticProgram(
        P=sp.diags(np.append(np.ones(cost.size), np.zeros(prosumers)), format="csc"),
        c=np.zeros(size),
        A=rows.tocsr(),
        lower=np.append(none, np.where(at_high.ravel(), -np.inf, flat - equal)),
        upper=np.append(none, np.where(at_low.ravel(), np.inf, flat + equal)),
        x_lower=np.full(size, -np.inf),
        x_upper=np.full(size, np.inf),
    )


def _padded(block: sp.spmatrix, columns: int) -> sp.spmatrix:
    return sp.hstack([block, sp.csr_matrix((block.shape[0], columns))])
