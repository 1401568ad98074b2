"""What the picture of convergence shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pypsa_p2p as p2p
from tests.reference.instances import network, random_instance

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")


def played(method: Any) -> p2p.Equilibrium:
    n = network(random_instance(0, 3, 2, 1, congestion=True))
    return p2p.solve_equilibrium(n, p2p.PeerToPeerMarket(), method, progress=False)


@pytest.mark.parametrize(
    ("method", "residuals"),
    [(p2p.GaussSeidel(), ["movement"]), (p2p.ADMM(), ["primal residual", "dual residual"])],
)
def test_curves_are_the_history(method: Any, residuals: list[str]) -> None:
    eq = played(method)
    figure, ax = plt.subplots()
    assert p2p.plot.convergence(eq, ax=ax) is ax
    curves = {line.get_label(): line for line in ax.get_lines()}
    assert list(curves) == [*residuals, "exploitability", "tolerance", "social cost"]
    for label in [*residuals, "exploitability"]:
        x, y = curves[label].get_data()
        assert x.tolist() == eq.history.iteration.values.tolist()
        np.testing.assert_allclose(y, eq.history[label.replace(" ", "_")].clip(min=1e-16))
    assert ax.get_yscale() == "log"
    (right,) = [other for other in figure.axes if other is not ax]
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), eq.history.social_cost)
    assert curves["tolerance"].get_ydata()[0] == method.tolerance
    plt.close(figure)


def test_the_direct_solve_has_nothing_to_show() -> None:
    with pytest.raises(p2p.MarketError, match="no convergence to show"):
        p2p.plot.convergence(played(None))
