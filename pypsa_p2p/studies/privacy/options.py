"""How private prosumers want their targets to be, and what they may do for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.given import Given, Range
from pypsa_p2p.common.names import PROSUMER, SNAPSHOT
from pypsa_p2p.markets.options import require_choice

Noise = Literal["gaussian", "laplace"]
Observer = Literal["reports", "price"]

BY_HOUR: Final = (SNAPSHOT, PROSUMER)
GIVEN: Final = {
    "loss": Given("PrivateReports: loss", (PROSUMER,), Range(0, ends="(]", infinite=True)),
    "sensitivity": Given("PrivateReports: sensitivity", BY_HOUR, Range(0)),
    "distance": Given("PrivateReports: distance", BY_HOUR, Range(0, infinite=True)),
    "most_noise": Given("PrivateReports: most_noise", BY_HOUR, Range(0, infinite=True)),
}


@dataclass(frozen=True, kw_only=True)
class PrivateReports:
    r"""What prosumers may report instead of their target demand, and how private it must stay.

    Each reports :math:`D^*_n + \beta_n + \varepsilon_n`, a deviation within a distance of the truth
    and noise of mean 0 and variance :math:`v_n`, such that the expectation of the privacy loss
    between two targets that lie a sensitivity apart is bounded (MODEL.md §11). That reports have
    these two parts and two bounds is in the abstract of Shilov, Le Cadre and Bušić (2021); the
    laws of noise, what is reported, and all formulas are ours.

    Parameters
    ----------
    loss : scalar or by prosumer
        A, most of the expected privacy loss (a divergence, without unit), over all scenarios and
        snapshots; positive, infinite for none to mind. The smaller, the more private.
    sensitivity : scalar, by prosumer, or snapshot x prosumer
        :math:`\Delta`, MW: targets so close must not be told apart.
    distance : scalar, by prosumer, or snapshot x prosumer, optional
        Most of :math:`|\beta|`, MW. Default: infinite, no bound.
    noise : {"gaussian", "laplace"}
        Its law. For the same loss the Gaussian needs less variance.
    observer : {"reports", "price"}
        Who learns what. "reports": everybody sees every report, so that each needs noise of her
        own. "price": only prices are seen, so that the sum of everybody's noise hides each, a
        constraint that all share; Gaussian alone.
    most_noise : scalar, by prosumer, or snapshot x prosumer, optional
        Most of each one's variance, MW2, with observer="price". Default: infinite.

    Raises
    ------
    MarketError
        A number out of range, an option that is none of these, Laplace noise or no `most_noise`
        where the other option has no use for it.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> p2p.PrivateReports(loss={"a": 0.5, "b": 1.0}, sensitivity=2.0).loss
    {'a': 0.5, 'b': 1.0}
    """

    loss: Any
    sensitivity: Any
    distance: Any = float("inf")
    noise: Noise = "gaussian"
    observer: Observer = "reports"
    most_noise: Any = None

    def __post_init__(self) -> None:
        for name, given in GIVEN.items():
            object.__setattr__(self, name, given.read(getattr(self, name)))
        for name in ("loss", "sensitivity", "distance"):
            if getattr(self, name) is None:
                raise MarketError(f"PrivateReports: give {name}, a number or by prosumer.")
        require_choice("noise", self.noise, ("gaussian", "laplace"))
        require_choice("observer", self.observer, ("reports", "price"))
        if self.observer == "price" and self.noise != "gaussian":
            raise MarketError(
                "PrivateReports: with observer='price' noises add up, and a sum of Laplace's is "
                "none of them: take noise='gaussian'."
            )
        if self.observer == "reports" and self.most_noise is not None:
            raise MarketError(
                "PrivateReports: most_noise belongs to observer='price', in which some may add "
                "noise for others; leave it out."
            )
