"""Market data as plain arrays, and the network they make through the package's public door.

Symbols are those of MODEL.md §1. A directed trade k < E is what `edges[k, 0]` buys from
`edges[k, 1]`; trade E + k is the same edge the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pypsa
import xarray as xr

import pypsa_p2p as p2p

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Instance:
    """One market. N prosumers, S scenarios, T snapshots, E edges.

    Prices in EUR/MWh, powers in MW, weightings in hours, `usage_benefit` and `fixed_cost` in EUR/h.
    """

    names: tuple[str, ...]
    probability: Array  # (S,) p
    weighting: Array  # (T,) w
    demand: Array  # (N, S, T) D*
    demand_min: Array  # (N,)
    demand_max: Array  # (N,)
    generation_min: Array  # (N,)
    generation_max: Array  # (N,)
    a: Array  # (N,) C = a/2 G^2 + b G + d
    b: Array  # (N,)
    d: Array  # (N,)
    utility_quadratic: Array  # (N,) a tilde
    usage_benefit: Array  # (N,) b tilde
    renewable: Array  # (N, S, T) Delta G
    risk_attitude: Array  # (N,) chi
    edges: npt.NDArray[np.int64]  # (E, 2)
    capacity: Array  # (E,) kappa
    price: Array  # (2E,) b of the trade's buyer
    congestion: Array  # (E,) a of the edge
    import_price: Array  # (S, T, N) p0
    fee: Array | None = None  # (2E, T) f of the trade's buyer; None: there are no fees

    @property
    def fees(self) -> Array:
        """f of the trade's buyer, (2E, T)."""
        nothing = np.zeros((2 * len(self.edges), len(self.weighting)))
        return nothing if self.fee is None else self.fee

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, S, T, E."""
        n, s, t = self.demand.shape
        return n, s, t, len(self.edges)

    @property
    def buyer(self) -> npt.NDArray[np.int64]:
        """Prosumer that decides each trade, shape (2E,)."""
        return np.concatenate([self.edges[:, 0], self.edges[:, 1]])

    @property
    def seller(self) -> npt.NDArray[np.int64]:
        """Prosumer on the other side of each trade, shape (2E,)."""
        return np.concatenate([self.edges[:, 1], self.edges[:, 0]])

    @property
    def incidence(self) -> Array:
        """(N, 2E): 1 where the prosumer is the trade's buyer, so that Q = incidence @ q."""
        return (np.arange(len(self.names))[:, None] == self.buyer[None, :]).astype(float)

    @property
    def scenarios(self) -> list[str]:
        """Names of the scenarios."""
        return [f"s{k}" for k in range(len(self.probability))]


def three_node() -> Instance:
    """MODEL.md §9: three nodes, three scenarios, one snapshot."""
    renewable = np.array(
        [
            [2.8952561281927793, 2.2482975304187205, 0.5027259399294237],
            [1.658678780789261, 2.914545741971315, 2.351888189670447],
            [0.11592935698388074, 2.281324802297712, 0.37504136746821126],
        ]
    )
    demand = np.array(
        [
            [1.3827676991716693, 0.08358222382569913, 3.426548494393181],
            [7.273058131105369, 5.5669381779891385, 4.775982414126223],
            [2.14630133232448, 5.392322110174859, 6.529404724500087],
        ]
    )
    return Instance(
        names=("node0", "node1", "node2"),
        probability=np.full(3, 1 / 3),
        weighting=np.ones(1),
        demand=demand[:, :, None],
        demand_min=np.zeros(3),
        demand_max=np.full(3, 10.0),
        generation_min=np.zeros(3),
        generation_max=np.array([10.0, 0.0, 0.0]),
        a=np.array([0.5353027996733363, 0.2743886024182589, 0.6880650530486562]),
        b=np.array([0.048638223979889705, 0.18135310781459213, 0.0550926893600856]),
        d=np.array([0.25656978557764465, 0.27860408681196946, 0.23100499807342023]),
        utility_quadratic=np.array([0.36030143572119644, 0.8194188912652529, 0.7073792742889289]),
        usage_benefit=np.array([0.43213666201039447, 0.3942880799602334, 0.8721268085292664]),
        renewable=renewable[:, :, None],
        risk_attitude=np.array([0.06910997716902567, 0.7617642865089619, 0.9838119468874024]),
        edges=np.array([[0, 1], [0, 2], [1, 2]]),
        capacity=np.array([10.0, 10.0, 5.0]),
        price=np.array([1.0, 1.0, 1.0, 3.0, 2.0, 1.0]),
        congestion=np.zeros(3),
        import_price=np.zeros((3, 1, 3)),
    )


def random_instance(
    seed: int,
    prosumers: int = 4,
    scenarios: int = 3,
    snapshots: int = 1,
    *,
    congestion: bool = False,
    symmetric_prices: bool = False,
    equal_attitudes: bool = False,
    fees: float = 0.0,
) -> Instance:
    """A random market that is always feasible: no trade at all is.

    About a third of the prosumers cannot generate, some cannot stop consuming, and a third of the
    edges are narrow enough to bind. The graph is a ring plus chords, so that circulating trades
    exist. Import prices are negative for some (the surplus costs her less than nothing) and small,
    so that surplus is sold in some markets and not in others. Fees up to `fees` vary by agent, edge
    and snapshot; a third are 0.
    """
    rng = np.random.default_rng(seed)
    n, s, t = prosumers, scenarios, snapshots
    edges = _edges(rng, n)
    e = len(edges)
    renewable = rng.uniform(0.0, 3.0, (n, s, t)) * rng.integers(0, 2, (n, 1, 1))
    generation_max = np.where(rng.random(n) < 1 / 3, 0.0, rng.uniform(2.0, 8.0, n))
    demand_min = np.where(rng.random(n) < 0.3, 0.5 * renewable.min(axis=(1, 2)), 0.0)
    forward = rng.uniform(0.2, 2.0, e)
    backward = forward if symmetric_prices else rng.uniform(0.2, 2.0, e)
    attitude = rng.uniform(0.05, 0.9, n)
    probability = rng.dirichlet(np.full(s, 5.0))
    drawn = np.random.default_rng([seed, 6]).uniform(-0.5 * fees, fees, (2 * e, t))
    return Instance(
        fee=drawn.clip(min=0.0) if fees else None,
        names=tuple(f"p{k}" for k in range(n)),
        probability=probability / probability.sum(),
        weighting=rng.uniform(0.5, 3.0, t) if t > 1 else np.ones(1),
        demand=rng.uniform(1.0, 8.0, (n, s, t)),
        demand_min=demand_min,
        demand_max=rng.uniform(5.0, 9.0, n),
        generation_min=np.zeros(n),
        generation_max=generation_max,
        a=rng.uniform(0.2, 1.0, n),
        b=rng.uniform(0.0, 1.0, n),
        d=rng.uniform(0.0, 0.5, n),
        utility_quadratic=rng.uniform(0.2, 1.0, n),
        usage_benefit=rng.uniform(0.0, 2.0, n),
        renewable=renewable,
        risk_attitude=np.full(n, attitude[0]) if equal_attitudes else attitude,
        edges=edges,
        capacity=np.where(
            rng.random(e) < 1 / 3, rng.uniform(0.1, 0.6, e), rng.uniform(4.0, 9.0, e)
        ),
        price=np.concatenate([forward, backward]),
        congestion=rng.uniform(0.1, 0.8, e) if congestion else np.zeros(e),
        import_price=np.repeat(rng.uniform(-0.5, 1.5, (s, t, 1)), n, axis=2),
    )


def _edges(rng: np.random.Generator, n: int) -> npt.NDArray[np.int64]:
    """A ring (a single edge for two prosumers) and n // 2 distinct chords."""
    ring = {(k, k + 1) for k in range(n - 1)} | ({(0, n - 1)} if n > 2 else set())
    chords = [(i, j) for i in range(n) for j in range(i + 1, n) if (i, j) not in ring]
    order = rng.permutation(len(chords))[: n // 2]
    return np.array(sorted(ring | {chords[k] for k in order}))


def permuted(instance: Instance, order: npt.NDArray[np.int64]) -> Instance:
    """The same market with prosumer `order[k]` in place k, under her old name."""
    by_prosumer = [
        "demand",
        "demand_min",
        "demand_max",
        "generation_min",
        "generation_max",
        "a",
        "b",
        "d",
        "utility_quadratic",
        "usage_benefit",
        "renewable",
        "risk_attitude",
    ]
    place = np.argsort(order)
    return replace(
        instance,
        names=tuple(instance.names[k] for k in order),
        edges=place[instance.edges],
        import_price=instance.import_price[:, :, order],
        **{name: getattr(instance, name)[order] for name in by_prosumer},
    )


def edges_turned(instance: Instance) -> Instance:
    """The same market with every edge written the other way round."""
    e = len(instance.edges)
    turned = {
        name: np.concatenate([values[e:], values[:e]])
        for name, values in (("price", instance.price), ("fee", instance.fees))
    }
    return replace(instance, edges=instance.edges[:, ::-1].copy(), **turned)


def money_scaled(instance: Instance, factor: float) -> Instance:
    """Every price and cost coefficient times `factor`."""
    money = [
        "a",
        "b",
        "d",
        "utility_quadratic",
        "usage_benefit",
        "price",
        "congestion",
        "import_price",
    ]
    scaled = {name: factor * getattr(instance, name) for name in money}
    return replace(instance, fee=factor * instance.fees, **scaled)


def snapshots_split(instance: Instance) -> Instance:
    """Every snapshot cut in two of half its weighting."""
    return replace(
        instance,
        weighting=np.repeat(instance.weighting / 2, 2),
        demand=np.repeat(instance.demand, 2, axis=2),
        renewable=np.repeat(instance.renewable, 2, axis=2),
        import_price=np.repeat(instance.import_price, 2, axis=1),
        fee=np.repeat(instance.fees, 2, axis=1),
    )


def network(instance: Instance) -> pypsa.Network:
    """The instance as a PyPSA network, built with the package's own functions only.

    Scenarios are set only where there is more than one.
    """
    names = list(instance.names)
    snapshots = pd.RangeIndex(instance.demand.shape[2], name="snapshot")
    n = pypsa.Network()
    n.set_snapshots(snapshots)
    for column in n.snapshot_weightings.columns:
        n.snapshot_weightings[column] = instance.weighting
    p2p.add_prosumers(
        n,
        names,
        demand=pd.DataFrame(instance.demand[:, 0].T, snapshots, names),
        demand_max=instance.demand_max,
        demand_min=instance.demand_min,
        utility_quadratic=instance.utility_quadratic,
        usage_benefit=instance.usage_benefit,
        generation_max=instance.generation_max,
        generation_min=instance.generation_min,
        marginal_cost=instance.b,
        marginal_cost_quadratic=instance.a / 2,
        fixed_cost=instance.d,
        renewable=pd.DataFrame(instance.renewable[:, 0].T, snapshots, names),
        risk_attitude=instance.risk_attitude,
        import_price=pd.DataFrame(instance.import_price[0], snapshots, names),
    )
    edges = [(names[i], names[j]) for i, j in instance.edges]
    trades = edges + [(j, i) for i, j in edges]
    p2p.add_trades(
        n,
        edges,
        capacity=dict(zip(edges, instance.capacity.tolist(), strict=True)),
        price=dict(zip(trades, instance.price.tolist(), strict=True)),
        congestion=dict(zip(edges, instance.congestion.tolist(), strict=True)),
        fee=_fee(instance, snapshots, trades),
    )
    if len(instance.probability) > 1:
        probability = pd.Series(instance.probability, instance.scenarios)
        p2p.set_scenarios(n, probability, _scenario_data(instance, snapshots))
    return n


def _fee(instance: Instance, snapshots: pd.Index, trades: list[tuple[str, str]]) -> object:
    """Fees as `p2p.add_trades` takes them: none, or snapshot x (payer, partner)."""
    if instance.fee is None:
        return 0.0
    return pd.DataFrame(instance.fee.T, snapshots, pd.MultiIndex.from_tuples(trades))


def _scenario_data(instance: Instance, snapshots: pd.Index) -> xr.Dataset:
    """What differs between scenarios, as `p2p.set_scenarios` takes it."""
    dims = ("scenario", "snapshot", "prosumer")
    data = {
        "demand": (dims, instance.demand.transpose(1, 2, 0)),
        "renewable": (dims, instance.renewable.transpose(1, 2, 0)),
        "import_price": (dims, instance.import_price),
    }
    coords = {
        "scenario": instance.scenarios,
        "snapshot": snapshots,
        "prosumer": list(instance.names),
    }
    return xr.Dataset(data, coords)
