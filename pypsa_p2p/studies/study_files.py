"""Studies out of files: TOML that names a network, markets and values, and networks themselves."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pypsa

from pypsa_p2p.common.errors import DataError, P2PError, listed
from pypsa_p2p.markets.base import Market
from pypsa_p2p.network.bundled_grids import list_grids, load_grid
from pypsa_p2p.studies.market_words import market_from

_HDF5: Final = (".h5", ".hdf5", ".hdf", ".he5")
_FORMS: Final = {"network": str, "markets": dict, "over": dict}
_KNOWN: Final = 'network = "...", tables [markets.NAME], a table [over]'
_USUAL: Final[dict[str, dict[str, Any]]] = {
    "centralized": {"design": "centralized"},
    "peer-to-peer": {},
    "risk-averse": {"risk": True},
    "contracts": {"risk": True, "contracts": True},
}
USUAL: Final = tuple(_USUAL)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a TOML file says: a network, markets by name, values to sweep; each may be missing."""

    network: str = ""
    markets: Mapping[str, Market] = field(default_factory=dict)
    over: Mapping[str, Any] = field(default_factory=dict)


def usual_markets() -> dict[str, Market]:
    """The designs that are compared where nobody names others, by their names in `USUAL`."""
    return {name: market_from(settings) for name, settings in _USUAL.items()}


def read_study(path: Path) -> Study:
    """The study of a TOML file.

    Raises
    ------
    DataError
        The file cannot be read, or holds what no study has, or settings that no market has.
    """
    content = _toml(path)
    unknown = [name for name in content if name not in _FORMS]
    if unknown:
        raise DataError(f"{path}: a study has no {listed(unknown)}; it may have {_KNOWN}.")
    odd = [name for name, value in content.items() if not isinstance(value, _FORMS[name])]
    if odd:
        raise DataError(f"{path}: {listed(odd)} must be written as in {_KNOWN}.")
    try:
        if "markets" in content:
            content["markets"] = _markets(content["markets"])
    except P2PError as error:
        raise DataError(f"{path}: {error}") from error
    return Study(**content)


def read_network(given: str, beside: Path = Path()) -> pypsa.Network:
    """A network from a file or folder, or a bundled grid with its market.

    Parameters
    ----------
    given : str
        Path of a file PyPSA reads or of a folder of its CSV files, or else a grid's name.
    beside : Path
        The folder in which a relative path begins.

    Raises
    ------
    DataError
        There is no such file and no such grid, or PyPSA cannot read it.
    """
    path = beside / given
    if path.suffix in _HDF5:
        raise DataError(
            f"{path} is HDF5, in which PyPSA keeps tables as pickles: whoever opens it runs what "
            "somebody hid there. Read it with pypsa.Network where you trust it, and export it to "
            "netCDF."
        )
    if path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return _without_gaps(pypsa.Network(path))
            except Exception as error:
                raise DataError(f"PyPSA cannot read {path}: {error}") from error
    if given in list_grids():
        return load_grid(given, market=True)
    raise DataError(
        f"There is no file {path}, and no bundled grid of this name; there are "
        f"{', '.join(list_grids())}."
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8, as TOML must be ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not TOML: {error}.") from error


def _markets(tables: Mapping[str, Any]) -> dict[str, Market]:
    if not tables:
        raise DataError("markets: give each a table, [markets.NAME], or leave [markets] out.")
    markets = {}
    for name, settings in tables.items():
        if not isinstance(settings, Mapping):
            raise DataError(f"markets: {name!r} must be a table, [markets.{name}].")
        try:
            markets[name] = market_from(settings)
        except P2PError as error:
            raise DataError(f"[markets.{name}]: {error}") from error
    return markets


def _without_gaps(n: pypsa.Network) -> pypsa.Network:
    """The network with defaults where PyPSA's files have gaps.

    In a file series that are all default are left out, scenario by scenario; when read, those of
    other scenarios are there and these are NaN. A series without a default keeps its gaps.
    """
    for name in sorted(n.all_components):
        component = n.c[name]
        for attribute in component.dynamic.keys() & component.defaults.index:
            series = component.dynamic[attribute]
            if not series.empty and series.isna().to_numpy().any():
                default = component.defaults.at[attribute, "default"]
                component.dynamic[attribute] = series.fillna(default)
    return n
