r"""The envelope of all probabilities to which the actual ones can be moved at a limited cost.

.. math:: R[y] = \min_{l \ge 0} \; \rho l + \sum_\omega p_\omega
    \max_{\omega'} (y_{\omega'} - l c_{\omega\omega'})
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.solvers.arrays import Flags, Vector
from pypsa_p2p.solvers.cover import Cover, cover

Matrix = npt.NDArray[np.float64]


def transport(distance: Matrix, radius: float, probability: Vector) -> Cover:
    r"""Its cover: a price l of distance and, for each scenario, the worst m it can be moved to.

    .. math:: m_\omega \ge y_{\omega'} - l c_{\omega\omega'}

    Where no way round is shorter it is enough that :math:`m \ge y` and, between scenarios with
    none in between, :math:`m_\omega \ge m_{\omega'} - l c_{\omega\omega'}`.

    Parameters
    ----------
    distance : (S, S)
        c, from which scenario (row) to which (column), at least 0, with 0 on the diagonal.
    radius : float
        :math:`\rho`, in the unit of the distance.
    probability : (S,)
    """
    count = probability.size
    one = sp.identity(count, format="csr")
    between = steps(distance)
    if between is None:
        first, other = np.divmod(np.arange(count**2), count)
        of_costs, of_cover = one[other], sp.hstack([distance.reshape(-1, 1), one[first]])
    else:
        first, other = np.nonzero(between)
        of_costs = sp.vstack([one, sp.csr_matrix((first.size, count))])
        moved = sp.hstack([distance[first, other][:, None], one[first] - one[other]])
        of_cover = sp.vstack([sp.hstack([np.zeros((count, 1)), one]), moved])
    price = np.append(radius, probability)
    return cover(of_costs, of_cover, price, np.arange(count + 1) > 0)


def steps(distance: Matrix) -> Flags | None:
    """Pairs with nothing in between, (S, S); None where a way round is shorter than straight on.

    Examples
    --------
    >>> steps(np.array([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]])).astype(int)
    array([[0, 1, 0],
           [1, 0, 1],
           [0, 1, 0]])
    """
    found = ~np.identity(len(distance), dtype=bool)
    longer, slack = distance * (1.0 + ACCURACY.tied), distance * (1.0 - ACCURACY.tied)
    for there, back in zip(distance.T, distance, strict=True):  # one at a time: memory of S x S
        by_it = there[:, None] + back
        if (by_it < slack).any():
            return None
        found &= (by_it > longer) | (there == 0.0)[:, None] | (back == 0.0)
    return found
