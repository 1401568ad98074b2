"""What a market refuses of its options, and of the model that it is called with."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from inspect import signature

import linopy
import pandas as pd
import pypsa

from pypsa_p2p.common.errors import MarketError, listed, shown
from pypsa_p2p.common.names import META
from pypsa_p2p.common.pypsa_state import model_of
from pypsa_p2p.formulation.posed import POSED
from pypsa_p2p.formulation.trading import QUANTITY1
from pypsa_p2p.network.market_data import MarketData


def require_type(name: str, value: object, wanted: type, besides: str = "") -> None:
    """Refuse an option that is neither None nor of its type; `besides` is what made it of that."""
    if value is not None and not isinstance(value, wanted):
        forms = ", ".join(filter(None, (f"a {wanted.__name__}", besides)))
        raise MarketError(f"Option {name} must be {forms} or None, not {shown(value)}.")


def require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse an option that is none of its choices."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise MarketError(f"Option {name} must be one of {listed(choices)}, not {shown(value)}.")


def as_assets(names: object) -> tuple[str, ...]:
    """Names of assets, in the order given; one name stands for itself."""
    given = (names,) if isinstance(names, str) else names
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(name, str) for name in found):
        raise MarketError(
            f"Option here_and_now must be names of assets, ('coal', ...), not {shown(names)}."
        )
    if len(set(found)) < len(found):
        raise MarketError(f"Option here_and_now repeats a name of {listed(found)}: give each once.")
    return found


def require_model(n: pypsa.Network, data: MarketData) -> None:
    """Refuse a model that is missing, of other snapshots, or holds a market already.

    Refused too is the second window of a rolling horizon, see `_refuse_windows`.
    """
    m = model_of(n)
    if m is None:
        raise MarketError(
            "The network has no model to add a market to: call n.optimize.create_model() first, "
            "or n.optimize(extra_functionality=market)."
        )
    if not pd.Index(m.parameters["snapshots"].to_numpy()).equals(pd.Index(data.snapshots)):
        raise MarketError(
            "The model was built for other snapshots than the market is asked for: pass the same "
            "to n.optimize.create_model and to the market."
        )
    if QUANTITY1 in m.variables or POSED in m.parameters:
        raise MarketError(
            "The model holds a market already. Build it anew, n.optimize.create_model(), and give "
            "it one market."
        )
    _refuse_windows(n, data)


def _refuse_windows(n: pypsa.Network, data: MarketData) -> None:
    """Refuse to solve a network's snapshots window by window inside one call of PyPSA.

    Every window is a market of its own, with its own risk and prices, and `results` tells of
    one market: after ``n.optimize.optimize_with_rolling_horizon`` it would show the last alone.
    A window within the one on record, or around it, replaces that.
    """
    before = set(n.meta.get(META, {}).get("snapshots", ()))
    now = set(n.snapshots.get_indexer(data.snapshots).tolist())
    if before <= now or now <= before:
        return
    raise MarketError(
        f"Snapshots {listed(data.snapshots.astype(str), limit=2)}: the network holds the market of "
        f"other snapshots, {listed(n.snapshots[sorted(before)].astype(str), limit=2)}, and each "
        "window is a market of its own (rolling horizons are not available as a hook). Solve all "
        "snapshots together; or call market.optimize(n, window) in a loop and take results(n) "
        "after each; or use a copy of the network, n.copy(), for every window."
    )


def require_options(n: pypsa.Network, extra: object, options: Collection[str]) -> None:
    """Refuse what `create_model` does not take, such as options of PyPSA's solvers."""
    if extra is not None and not callable(extra):
        raise MarketError(
            f"Option extra_functionality must be a function f(n, snapshots), not {extra!r}."
        )
    known = {*signature(n.optimize.create_model).parameters, *signature(linopy.Model).parameters}
    unknown = sorted(set(options) - known)
    if unknown:
        raise MarketError(
            f"Unknown options {listed(unknown)}: market.optimize passes options to "
            "n.optimize.create_model and chooses the solver itself. To use a solver of your own, "
            "call n.optimize(extra_functionality=market, ...)."
        )
