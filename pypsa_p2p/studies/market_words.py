"""Market designs in words: as the command line and TOML files name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pypsa_p2p.common.errors import MarketError, listed
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.by_prosumer import RiskByProsumer
from pypsa_p2p.markets.contracts import Contracts
from pypsa_p2p.markets.designs import CentralizedMarket, PeerToPeerMarket
from pypsa_p2p.markets.risk import RiskMeasure
from pypsa_p2p.markets.social_cost import SocialCost

#: Designs by the words for them.
DESIGNS: Final = ("centralized", "community", "peer-to-peer", "generalized")
#: Social cost functions by the words for them.
WELFARES: Final = ("utilitarian", "maximin", "leximin", "nash")
#: Settings of a market, and what they may be.
SETTINGS: Final = {
    "design": f"one of {', '.join(DESIGNS)}",
    "risk": "true, or a table of attitude, weight, or else of measure (by name) and its numbers, "
    "or of such tables by prosumer",
    "contracts": "true, or a table of insurance_price, price, limit, payoff",
    "surplus": "true or false",
    "delivery": "trades or grid",
    "here_and_now": "names of assets that are decided before the scenario is known",
    "weights": "of a generalized equilibrium, by prosumer",
    "payments": "none, or risk: whether payments are part of each prosumer's risk (peer-to-peer)",
    "welfare": f"of the design centralized: one of {', '.join(WELFARES)}, or a table of it and "
    "reference (alone, or by prosumer) and weights (by prosumer)",
    "participation": "of the design centralized: true or false",
}


def market_from(settings: Mapping[str, Any]) -> Market:
    """A market from plain words and numbers.

    Parameters
    ----------
    settings : mapping
        ``design``: "peer-to-peer" (default), "generalized" (equilibrium), "centralized" or
        "community" (centralized, the community's cost as one). ``risk``: true for the network's
        own attitudes, or a mapping of `CVaR`'s arguments, or of another ``measure``, by name, and
        its own, or a mapping of such mappings by prosumer; ``contracts``: true, or a mapping of
        those of `Contracts`. ``welfare``: "utilitarian", "maximin", "leximin" or "nash", or a
        mapping of ``welfare``, one of these, and its arguments. ``surplus``, ``delivery``,
        ``here_and_now``, ``weights``, ``payments``, ``participation``: as they are.

    Raises
    ------
    MarketError
        Settings that are not known, or that the market refuses.

    Examples
    --------
    >>> market_from({"design": "peer-to-peer", "risk": {"attitude": 0.5}}).risk
    CVaR(attitude=0.5, weight=1.0)
    """
    unknown = [name for name in settings if name not in SETTINGS]
    if unknown:
        known = "; ".join(f"{name}: {values}" for name, values in SETTINGS.items())
        raise MarketError(f"A market has no setting {listed(unknown)}. It has {known}.")
    as_they_are = ("surplus", "delivery", "here_and_now")
    arguments = {name: settings[name] for name in as_they_are if name in settings}
    arguments["risk"] = _part(_measure, "risk", settings.get("risk", False))
    arguments["contracts"] = _part(Contracts, "contracts", settings.get("contracts", False))
    design = settings.get("design", "peer-to-peer")
    if design not in DESIGNS:
        raise MarketError(f"design: {design!r} is none of {listed(DESIGNS)}.")
    if "weights" in settings and design != "generalized":
        raise MarketError("weights belong to the design 'generalized'; leave them out.")
    if "payments" in settings and design != "peer-to-peer":
        raise MarketError(
            "payments belong to the design 'peer-to-peer', whose prosumers take prices; leave them "
            "out."
        )
    compared = {name: settings[name] for name in ("welfare", "participation") if name in settings}
    if compared and design != "centralized":
        raise MarketError(f"{listed(compared)} belong to the design 'centralized'; leave them out.")
    if design == "centralized":
        compared["welfare"] = _welfare(settings.get("welfare"))
        return CentralizedMarket(**arguments, **compared)
    if design == "community":
        return CentralizedMarket(aggregate="community", **arguments)
    if design == "generalized":
        weights = settings.get("weights")
        return PeerToPeerMarket(equilibrium="generalized", weights=weights, **arguments)
    return PeerToPeerMarket(payments=settings.get("payments", "none"), **arguments)


def _measure(**given: Any) -> RiskMeasure:
    """A risk measure by its name, or one for each of several prosumers.

    Examples
    --------
    >>> farm = {"measure": "TotalVariation", "radius": 0.2}
    >>> _measure(house={"attitude": 0.3}, farm=farm).measures
    {'house': CVaR(attitude=0.3, weight=1.0), 'farm': TotalVariation(radius=0.2)}
    """
    of_all = "measure" in given or not set(given).isdisjoint(("attitude", "weight"))
    if given and not of_all and all(isinstance(one, Mapping) for one in given.values()):
        return RiskByProsumer({name: _measure(**own) for name, own in given.items()})
    return RiskMeasure.of({"measure": "CVaR", **given})


def _welfare(given: Any) -> SocialCost | None:
    """A social cost function by its name, or by a mapping with its arguments."""
    if given is None:
        return None
    asked = dict(given) if isinstance(given, Mapping) else {"welfare": given}
    name = asked.get("welfare")
    if not (isinstance(name, str) and name in WELFARES):
        raise MarketError(f"welfare must be {SETTINGS['welfare']}, not {given!r}.")
    return SocialCost.of({**asked, "welfare": name.capitalize()})


def _part(form: Any, name: str, given: Any) -> Any:
    """A part of a market: none, as it comes, or with arguments of its own."""
    if isinstance(given, bool):
        return form() if given else None
    if not isinstance(given, Mapping):
        raise MarketError(f"{name} must be {SETTINGS[name]}, not {given!r}.")
    try:
        return form(**given)
    except TypeError as error:
        raise MarketError(f"{name}: {error}; it may be {SETTINGS[name]}.") from error
