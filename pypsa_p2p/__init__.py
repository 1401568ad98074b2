"""Risk-averse peer-to-peer electricity markets on PyPSA networks."""

from pypsa_p2p import plot, prices
from pypsa_p2p.assigning import assign_prosumers
from pypsa_p2p.certificate import Certificate, certify
from pypsa_p2p.contracts import Contracts
from pypsa_p2p.copula import sample_copula
from pypsa_p2p.equilibrium.admm import ADMM
from pypsa_p2p.equilibrium.algorithms import Equilibrium, solve_equilibrium
from pypsa_p2p.equilibrium.gauss_seidel import GaussSeidel, Jacobi
from pypsa_p2p.equilibrium.samples import sample_equilibria
from pypsa_p2p.errors import ConvergenceError, DataError, MarketError, P2PError
from pypsa_p2p.fairness import fairness
from pypsa_p2p.grids import list_grids, load_grid
from pypsa_p2p.histories import scenarios_from_history
from pypsa_p2p.markets import CentralizedMarket, PeerToPeerMarket
from pypsa_p2p.pandapower import from_pandapower
from pypsa_p2p.power_flow import check_power_flow, power_flow_violations
from pypsa_p2p.prosumers import add_prosumers
from pypsa_p2p.releasing import release_prosumers
from pypsa_p2p.results import results
from pypsa_p2p.risk import CVaR
from pypsa_p2p.sampling import sample_scenarios
from pypsa_p2p.scenarios import set_scenarios
from pypsa_p2p.study import compare
from pypsa_p2p.sweeping import sweep
from pypsa_p2p.trades import add_trades

__version__ = "0.1.0"

__all__ = [
    "ADMM",
    "CVaR",
    "CentralizedMarket",
    "Certificate",
    "Contracts",
    "ConvergenceError",
    "DataError",
    "Equilibrium",
    "GaussSeidel",
    "Jacobi",
    "MarketError",
    "P2PError",
    "PeerToPeerMarket",
    "add_prosumers",
    "add_trades",
    "assign_prosumers",
    "certify",
    "check_power_flow",
    "compare",
    "fairness",
    "from_pandapower",
    "list_grids",
    "load_grid",
    "plot",
    "power_flow_violations",
    "prices",
    "release_prosumers",
    "results",
    "sample_copula",
    "sample_equilibria",
    "sample_scenarios",
    "scenarios_from_history",
    "set_scenarios",
    "solve_equilibrium",
    "sweep",
]
