"""What `certify` finds: how far every condition is from holding, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import xarray as xr

from pypsa_p2p.common.accuracy import ACCURACY
from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.solution.certificate.scale import Scale

Equilibrium = Literal["variational", "generalized"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificate:
    """What `certify` found; every number is 0 at an exact solution and has no unit.

    All are relative to `scale`, what the market itself is like at the answer, never to 1 MW or
    1 EUR: the market in kW or MEUR has the same certificate.

    Attributes
    ----------
    design : str
        Name of the market's class: "CentralizedMarket", "PeerToPeerMarket" or your own.
    equilibrium : {"variational", "generalized", None}
        What the market promised; None of the centralized design.
    kkt_residual : float
        The largest of `residuals`.
    residuals : mapping of str to float
        By condition of MODEL.md §2-5, how much it is violated. Powers are relative to
        ``scale.power``, rows in other units to what that makes of their largest coefficient or
        to the size of their terms; prices to ``scale.price``; products of a price and the
        distance from a limit, which counts up to ``scale.power``, to both; gains at prices to
        ``scale.money``; risk and contracts to ``scale.risk``; probabilities to those of their
        scenarios.
    exploitability : DataArray (prosumer)
        How much a prosumer's own objective falls when she alone decides anew, relative to the
        whole market's money, ``scale.money`` (with contracts ``scale.risk``): not to her own
        objective, which may be 0 and depends on constants. Of the centralized design for
        information: a planner makes prosumers do what they would not, where a > 0.
    multiplier_misalignment : float
        Largest difference of the two ends' prices of an edge, relative to ``scale.price``.
    budget_imbalance : float
        What payments for trades on an edge fail to cancel by, and for the grid to cover its
        congestion rent, relative to ``scale.money``; for contracts, to ``scale.risk``.
    scale : Scale
        The largest quantity and price and the sum of costs at the answer, in MW, EUR/MWh and EUR.
    uneven : bool
        Whether prosumers have different weights, so that the ends of an edge need not agree on its
        price.
    unknown_constraints : tuple of str
        Constraints of the model that are not the market's (a user's own). The certificate is of
        the market without them: where one binds, its multiplier shows up as `kkt_residual`, and
        what it forbids prosumers as `exploitability`.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> p2p.PeerToPeerMarket(risk=p2p.CVaR(), surplus=False).optimize(n)
    ('ok', 'optimal')
    >>> found = p2p.certify(n)
    >>> found.is_equilibrium(), found.kkt_residual < 1e-6, found.equilibrium
    (True, True, 'variational')
    """

    design: str
    equilibrium: Equilibrium | None
    kkt_residual: float
    residuals: Mapping[str, float]
    exploitability: xr.DataArray
    multiplier_misalignment: float
    budget_imbalance: float
    scale: Scale
    unknown_constraints: tuple[str, ...] = ()
    uneven: bool = False

    def is_equilibrium(
        self, tolerance: float = ACCURACY.promised, *, equilibrium: Equilibrium | None = None
    ) -> bool:
        """Whether the solution is what its market promises, up to `tolerance`.

        Parameters
        ----------
        tolerance : float, default 1e-6
            Relative to the market's own scale.
        equilibrium : {"variational", "generalized"}, optional
            The kind asked for; default: the one the market promised.

            - variational: `kkt_residual`, `exploitability` of everybody,
              `multiplier_misalignment` and `budget_imbalance`.
            - generalized: `kkt_residual` and `exploitability`. The ends of an edge may value it
              differently, and then have no one price to pay.

            Of the centralized design, which is an optimum and no game: `kkt_residual` and
            `budget_imbalance`; `kkt_residual` alone where a planner gives prosumers different
            weights, at which the ends of an edge have prices of their own.

        Raises
        ------
        MarketError
            The kind is unknown or the design is centralized and one was asked for.
        """
        kind = self._kind(equilibrium)
        required = [self.kkt_residual]
        if kind is not None:
            required.append(float(self.exploitability.max(skipna=False)))
        if kind != "generalized" and not (kind is None and self.uneven):
            required += [self.multiplier_misalignment, self.budget_imbalance]
        return all(value <= tolerance for value in required)  # nan is not

    def _kind(self, asked: Equilibrium | None) -> Equilibrium | None:
        if asked is None:
            return self.equilibrium
        if asked not in ("variational", "generalized"):
            raise MarketError(f"equilibrium must be 'variational' or 'generalized', not {asked!r}.")
        if self.equilibrium is None:
            raise MarketError(
                "This design is an optimum, not an equilibrium of a game: call "
                "is_equilibrium without a kind."
            )
        return asked

    def __repr__(self) -> str:
        what = f"{self.equilibrium} equilibrium" if self.equilibrium else "its design's optimum"
        verdict = what if self.is_equilibrium() else f"not {what}"
        culprit = max(self.residuals, key=lambda name: self.residuals[name])
        gains = self.exploitability.to_series()
        lines = [
            f"Certificate of {self.design}: {verdict}, to {ACCURACY.promised:.0e}",
            f"  kkt_residual             {self.kkt_residual:.1e}  (largest: {culprit})",
            f"  exploitability           {gains.max():.1e}  (largest: {gains.idxmax()!r})",
            f"  multiplier_misalignment  {self.multiplier_misalignment:.1e}",
            f"  budget_imbalance         {self.budget_imbalance:.1e}",
        ]
        if self.unknown_constraints:
            lines.append(f"  without constraints      {listed(self.unknown_constraints)}")
        return "\n".join(lines)
