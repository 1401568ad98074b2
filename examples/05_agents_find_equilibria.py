"""How prosumers find an equilibrium by themselves, and which one: best responses or ADMM.

A peer-to-peer market is a game with many equilibria. At the variational one both ends of a trade
value it alike. Prosumers who merely answer each other's trades stop at a dearer one: from no
trade nobody can buy what nobody offers. Prosumers who agree on prices, by ADMM, get there.
"""

import logging

import matplotlib.pyplot as plt
import pypsa

import pypsa_p2p as p2p

logging.getLogger("linopy").setLevel(logging.WARNING)

names = ["school", "farm", "bakery", "flats", "mill", "villa"]
n = pypsa.Network()
p2p.add_prosumers(
    n,
    names,
    demand=[4, 2, 3, 6, 5, 2],
    demand_max=8,
    utility_quadratic=[0.5, 0.4, 0.6, 0.5, 0.7, 0.3],
    generation_max=[0, 6, 2, 0, 3, 0],
    marginal_cost=[0, 0.5, 1, 0, 0.8, 0],
    marginal_cost_quadratic=0.25,
    renewable=[1, 5, 0, 0, 2, 4],
    import_price=0.2,
)
everybody = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
p2p.add_trades(n, everybody, capacity=4, congestion=0.15)
market = p2p.PeerToPeerMarket()

planner = n.copy()
p2p.CentralizedMarket().optimize(planner)
print(f"The planner's optimum costs {planner.objective:.2f} EUR.\n")

# The same market three ways, each with a proof of what it is.
methods = {
    "direct solve": None,
    "best responses from no trade": p2p.GaussSeidel(start="zero"),
    "ADMM": p2p.ADMM(),
}
found, proof = {}, {}
for name, method in methods.items():
    found[name] = p2p.solve_equilibrium(n.copy(), market, method)
    proof[name] = p2p.certify(found[name].n)
    sent = int(found[name].history.messages.sum())
    cost = found[name].n.objective
    print(f"{name}: {cost:.2f} EUR, {found[name].iterations} iterations, {sent} messages")
    print(proof[name], "\n")

# Two pictures of getting there.
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
p2p.plot.convergence(found["best responses from no trade"], ax=left)
p2p.plot.convergence(found["ADMM"], ax=right)
figure.savefig("convergence.png", dpi=200)

# How far apart equilibria lie: some selected by weights, some by where best responses start.
sampled = p2p.sample_equilibria(n, market, weights=3, starts=3)
print(sampled[["kind", "social_cost", "multiplier_misalignment"]].to_dataframe().round(3), "\n")
print(f"price of stability <= {float(sampled.price_of_stability):.3f}")
print(f"price of anarchy   >= {float(sampled.price_of_anarchy):.3f}")

# The direct solve and ADMM are at the variational equilibrium.
variational, admm = found["direct solve"].n.objective, found["ADMM"].n.objective
assert proof["direct solve"].is_equilibrium()
assert proof["ADMM"].is_equilibrium()
assert abs(admm - variational) < 1e-6

# Best responses stop where nobody can gain alone, but the ends of trades value them differently.
stopped = proof["best responses from no trade"]
assert stopped.is_equilibrium(equilibrium="generalized")
assert not stopped.is_equilibrium(equilibrium="variational")
assert found["best responses from no trade"].n.objective > 1.5 * variational

# Nobody does better than the planner; the samples bound what equilibria cost.
assert planner.objective < variational
assert bool(sampled.converged.all())
assert sampled.price_of_stability < 1.05
assert sampled.price_of_anarchy > 1.5
