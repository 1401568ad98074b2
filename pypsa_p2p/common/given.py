"""What the arguments of options may be given: numbers in any form, within a range, kept plain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any, Final, NoReturn

import numpy as np
import pandas as pd
import xarray as xr

from pypsa_p2p.common.errors import DataError, MarketError, P2PError, shown
from pypsa_p2p.common.tables import Numbers
from pypsa_p2p.common.values import Labels, aligned, labelled, read_form, scalar


@dataclass(frozen=True)
class Range:
    """Finite numbers between two ends; `ends`, as "(]", says which of these belong to it.

    With `infinite`, "without limit" is one of them. As text it ends a message about other
    numbers; `why`, if given, is its last word.

    Examples
    --------
    >>> print(Range(0), "-", Range(0, 1, ends="(]"), "-", Range(0, ends="()", whole=True))
    a finite number of at least 0 - a number in (0, 1] - a whole number above 0
    >>> 0.5 in Range(0, 1), 0.5 in Range(0, whole=True), True in Range(), "1" in Range()
    (True, False, False, False)
    """

    least: float = -inf
    most: float = inf
    ends: str = "[]"
    whole: bool = False
    why: str = ""
    infinite: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Integral if self.whole else Real) or isinstance(value, bool):
            return False
        x: Any = value
        above = x > self.least if self.ends[0] == "(" else x >= self.least
        below = x < self.most if self.ends[1] == ")" else x <= self.most
        return bool(above and below and (_is_finite(x) or (self.infinite and x == inf)))

    def __str__(self) -> str:
        finite = self.most == inf and not self.infinite
        kind = "whole " if self.whole else "finite " if finite else ""
        first = "above" if self.ends[0] == "(" else "of at least"
        limits = f" {first} {self.least:g}" if self.least > -inf else ""
        if self.most < inf:
            limits = f" in {self.ends[0]}{self.least:g}, {self.most:g}{self.ends[1]}"
        limits += ", or infinite" if self.infinite else ""
        return f"a {kind}number{limits}" + (f"; {self.why}" if self.why else "")

    def require(
        self, what: str, value: object, where: str = "", error: type[P2PError] = MarketError
    ) -> None:
        """Refuse, with an `error`, a value outside the range; `what` opens the message.

        Examples
        --------
        >>> Range(0, 0.5).require("Jacobi: damping", 0.7)
        Traceback (most recent call last):
        ...
        pypsa_p2p.common.errors.MarketError: Jacobi: damping 0.7 must be a number in [0, 0.5].
        """
        if value not in self:
            raise error(f"{what} {shown(value)}{where} must be {self}.")


def _is_finite(x: Any) -> bool:
    try:
        return isfinite(x)
    except OverflowError:  # an integer beyond all floats
        return False


ANY: Final = Range()
POSITIVE: Final = Range(0, ends="()")


class ByName(dict[Any, float]):
    """Numbers by name: a dict that nobody changes and that hashes by value, as it compares."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("these numbers belong to a market: make another one with others")

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[type[ByName], tuple[dict[Any, float]]]:
        return ByName, (dict(self),)


@dataclass(frozen=True)
class Given:
    """What one argument may be given, and how it is kept.

    Parameters
    ----------
    what : str
        The argument, as it opens messages: "CVaR: attitude".
    dims : tuple of str
        The dimensions its numbers may have, one or two. The last is that of sequences, mappings
        and columns, the first of two that of rows.
    allowed : Range

    Examples
    --------
    >>> price = Given("price", ("scenario",), POSITIVE)
    >>> kept = price.read(pd.Series({"dry": 0.6, "wet": 0.9}))
    >>> kept, kept == price.read({"wet": 0.9, "dry": 0.6})
    ({'dry': 0.6, 'wet': 0.9}, True)
    >>> price.on(kept, pd.Index(["wet", "dry"])).values
    array([0.9, 0.6])
    >>> price.read([0.5, -1])
    Traceback (most recent call last):
    ...
    pypsa_p2p.common.errors.MarketError: price -1 at position 1 must be a finite number above 0.
    """

    what: str
    dims: tuple[str, ...]
    allowed: Range

    def read(self, value: Any) -> Any:
        """A value in plain form, which compares, hashes and pickles by value, and reads as itself.

        Parameters
        ----------
        value
            Any form that `values.as_array` takes; along its only dimension, a DataArray may go
            without labels.

        Returns
        -------
        None, where nothing was given; a number; a tuple in order; or a dict by name, by tuples of
        names where the numbers vary along the first of two dimensions.

        Raises
        ------
        MarketError
            A form, dimension or number that cannot be, labels that repeat.
        """
        if value is None:
            return None
        rows = self.dims[0] if len(self.dims) > 1 else None
        with _market_errors():
            values, labels = read_form(self._form(value), self.what, self.dims, rows)
        numbers = self._checked(values, labels)
        if not labels:
            return numbers.item()
        order = [dimension for dimension in self.dims if dimension in labels]
        cells = numbers.transpose([list(labels).index(dimension) for dimension in order])
        own = order == [self.dims[-1]]
        names = labels[order[0]] if own else product(*(labels[dimension] for dimension in order))
        found = cells.ravel().tolist()
        return tuple(found) if names is None else ByName(zip(names, found, strict=True))

    def on(self, kept: Any, *labels: pd.Index) -> xr.DataArray:
        """What `read` kept along all dimensions, in the order of these labels of each.

        Raises
        ------
        MarketError
            Labels, or as many numbers, as do not fit.
        """
        coordinates = dict(zip(self.dims, labels, strict=True))
        with _market_errors():
            array = aligned(self._form(kept), self.what, coordinates)
        everywhere = labelled(np.zeros([len(index) for index in labels]), coordinates)
        return everywhere + array.astype(float)

    def _form(self, value: Any) -> Any:
        """Tables by tuples of names with their dimensions, and what needs no labels without."""
        if len(self.dims) == 1:
            bare = isinstance(value, xr.DataArray) and value.dims == self.dims
            return value.to_numpy() if bare and not value.indexes else value
        return _table(value, self.dims) if _by_tuples(value, len(self.dims)) else value

    def _checked(self, values: Numbers, labels: Labels) -> Numbers:
        """The values as floats, each within the range; an error says which is not."""
        for place, value in np.ndenumerate(values):
            found = scalar(value)
            if found not in self.allowed:
                self.allowed.require(self.what, found, _where(labels, place))
        return values.astype(float)


def as_settings(kept: Any) -> Any:
    """What `Given.read` kept, as JSON and netCDF keep it: a number, a list, or a dict by text."""
    if isinstance(kept, Mapping):
        return {str(name): x for name, x in kept.items()}
    return list(kept) if isinstance(kept, tuple) else kept


def _by_tuples(value: Any, most: int) -> bool:
    """Whether a value is a mapping by tuples of names, all of the same length."""
    if not isinstance(value, Mapping):
        return False
    sizes = {len(key) if isinstance(key, tuple) else 0 for key in value}
    return len(sizes) == 1 and 0 < max(sizes) <= most


def _table(cells: Mapping[tuple[Any, ...], float], dims: tuple[str, ...]) -> xr.DataArray:
    """Numbers by tuples of names, along the first dimensions; NaN where there is none."""
    index = pd.MultiIndex.from_tuples(cells)
    index.names = dims[: index.nlevels]
    return xr.DataArray.from_series(pd.Series(list(cells.values()), index, dtype=object))


@contextmanager
def _market_errors() -> Iterator[None]:
    """Options that do not fit are the market's fault, not that of the network's data."""
    try:
        yield
    except DataError as error:
        raise MarketError(str(error)) from None


def _where(labels: Labels, place: tuple[int, ...]) -> str:
    """Which element: " of prosumer 'a'", " at position 0", or nothing where there is one."""
    return "".join(
        f" at position {k}" if index is None else f" of {dimension} {shown(index[k])}"
        for (dimension, index), k in zip(labels.items(), place, strict=True)
    )
