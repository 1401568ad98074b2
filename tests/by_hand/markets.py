"""Two prosumers and one edge: markets small enough for pencil and paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pypsa

import pypsa_p2p as p2p
from pypsa_p2p.common.tables import remove
from tests.reference.instances import Instance


def pair(
    *,
    demand_of_b: Sequence[Sequence[float]] = ((6.0,),),
    probability: Sequence[float] = (1.0,),
    weighting: Sequence[float] = (1.0,),
    demand_min_of_b: float = 0.0,
    capacity: float = 10.0,
    price: tuple[float, float] = (0.0, 0.0),
    congestion: float = 0.0,
    import_price: float = 0.0,
) -> Instance:
    """A generates at G^2 + G up to 10 MW and needs nothing; B needs power and cannot generate.

    a = 2, b = 1; both utilities have a tilde = 1 and no benefit b tilde. `demand_of_b` is D* of
    B by scenario and snapshot, `price` what A and B charge for buying from each other.
    """
    of_b = np.asarray(demand_of_b, float)
    s, t = of_b.shape
    return Instance(
        names=("A", "B"),
        probability=np.asarray(probability, float),
        weighting=np.asarray(weighting, float),
        demand=np.stack([np.zeros((s, t)), of_b]),
        demand_min=np.array([0.0, demand_min_of_b]),
        demand_max=np.full(2, 100.0),
        generation_min=np.zeros(2),
        generation_max=np.array([10.0, 0.0]),
        a=np.array([2.0, 0.0]),
        b=np.array([1.0, 0.0]),
        d=np.zeros(2),
        utility_quadratic=np.ones(2),
        usage_benefit=np.zeros(2),
        renewable=np.zeros((2, s, t)),
        risk_attitude=np.zeros(2),
        edges=np.array([[0, 1]]),
        capacity=np.array([capacity]),
        price=np.array(price, float),
        congestion=np.array([congestion]),
        import_price=np.full((s, t, 2), import_price),
    )


def twins(costs: Sequence[float]) -> Instance:
    """Two equal prosumers who pay `costs` by scenario, equally likely, and cannot help it.

    They have no power and D* = sqrt(cost) with a tilde = 1, so (D - D*)^2 at D = 0 is the cost.
    Trade between them would take from one what it gives to the other.
    """
    s = len(costs)
    demand = np.tile(np.sqrt(np.asarray(costs, float))[None, :, None], (2, 1, 1))
    none, one = np.zeros(2), np.ones(2)
    return Instance(
        names=("A", "B"),
        probability=np.full(s, 1 / s),
        weighting=np.ones(1),
        demand=demand,
        demand_min=none,
        demand_max=np.full(2, 100.0),
        generation_min=none,
        generation_max=none,
        a=none,
        b=none,
        d=none,
        utility_quadratic=one,
        usage_benefit=none,
        renewable=np.zeros((2, s, 1)),
        risk_attitude=none,
        edges=np.array([[0, 1]]),
        capacity=np.ones(1),
        price=none,
        congestion=np.zeros(1),
        import_price=np.zeros((s, 1, 2)),
    )


def add_seller_and_buyer(n: pypsa.Network) -> None:
    """A in the west generates at 1 + 2G; B in the east wants 6 of utility -(6 - D)^2."""
    p2p.add_prosumers(
        n,
        ["A", "B"],
        demand=[0, 6],
        demand_max=[0, 6],
        utility_quadratic=1.0,
        generation_max=[10, 0],
        marginal_cost=1.0,
        marginal_cost_quadratic=1.0,
        grid_bus=["west", "east"],
    )
    p2p.add_trades(n, [("A", "B")], capacity=10)


def seller_and_buyer(
    worth: float, snapshots: Sequence[str] = ("now",), **trade: Any
) -> pypsa.Network:
    """One MW at 10 EUR/MWh; a buyer of one MW at any price up to `worth`.

    `trade` is for `add_trades` beside a capacity of 5 MW.
    """
    n = pypsa.Network(snapshots=list(snapshots))
    p2p.add_prosumers(
        n,
        ["seller", "buyer"],
        demand=[0.0, 1.0],
        demand_max=[0.0, 1.0],
        utility_quadratic=0.0,
        generation_max=[1.0, 0.0],
        marginal_cost=[10.0, 0.0],
    )
    n.generators.loc["buyer elastic demand", "marginal_cost"] = worth
    p2p.add_trades(n, "complete", **{"capacity": 5.0, **trade})
    return n


def three_node_in_two_stages(
    *,
    ahead: bool = True,
    friction: float | None = None,
    imbalance: tuple[float, float] | None = None,
) -> pypsa.Network:
    """MODEL.md §9's three nodes that trade day ahead, or in real time at a friction, or both.

    What is bought in real time costs its buyer a friction c besides: half of it as a fee on all
    that she trades, half as a preference, c (r)^+ = c/2 |r| + c/2 r (MODEL.md §12).
    """
    n = p2p.load_grid("three_node")
    links = n.links[n.links.carrier == "p2p"].groupby(level="name", sort=False).first()
    edges = list(zip(links.bus0, links.bus1, strict=True))
    capacity = dict(zip(edges, links.p_nom, strict=True))
    price = dict(zip(edges, links.price0, strict=True))
    price |= {(b, a): of_b for (a, b), of_b in zip(edges, links.price1, strict=True)}
    remove(n, "Link", list(links.index))
    if ahead:
        p2p.add_trades(n, edges, capacity=capacity, price=price, decided="day-ahead")
    if friction is not None:
        dearer = {pair: b + friction / 2 for pair, b in price.items()}
        p2p.add_trades(n, edges, capacity=capacity, price=dearer, fee=friction / 2)
    if imbalance is not None:
        p2p.add_imbalance(n, buy=imbalance[0], sell=imbalance[1])
    return n
