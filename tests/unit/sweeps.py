"""What sweeps of the same points have to agree in."""

from __future__ import annotations

import xarray as xr


def assert_same(found: xr.Dataset, wanted: xr.Dataset) -> None:
    """Equal to what is promised: which points are solved together depends on what is left."""
    assert dict(found.sizes) == dict(wanted.sizes)
    assert set(found.variables) == set(wanted.variables)
    assert (found.error == wanted.error).all()
    rest = [each.drop_vars("error") for each in (found, wanted)]
    xr.testing.assert_allclose(*rest, rtol=1e-6, atol=1e-6)
    for name, array in wanted.variables.items():
        assert found[name].attrs == array.attrs
