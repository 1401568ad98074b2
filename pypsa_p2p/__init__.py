"""Risk-averse peer-to-peer electricity markets on PyPSA networks."""

from pypsa_p2p import plot
from pypsa_p2p.contracts import Contracts
from pypsa_p2p.errors import ConvergenceError, DataError, MarketError, P2PError
from pypsa_p2p.grids import list_grids, load_grid
from pypsa_p2p.markets import CentralizedMarket, PeerToPeerMarket
from pypsa_p2p.pandapower import from_pandapower
from pypsa_p2p.prosumers import add_prosumers, assign_prosumers
from pypsa_p2p.results import results
from pypsa_p2p.risk import CVaR
from pypsa_p2p.sampling import sample_scenarios
from pypsa_p2p.scenarios import set_scenarios
from pypsa_p2p.study import compare
from pypsa_p2p.trades import add_trades

__version__ = "0.1.0"

__all__ = [
    "CVaR",
    "CentralizedMarket",
    "Contracts",
    "ConvergenceError",
    "DataError",
    "MarketError",
    "P2PError",
    "PeerToPeerMarket",
    "add_prosumers",
    "add_trades",
    "assign_prosumers",
    "compare",
    "from_pandapower",
    "list_grids",
    "load_grid",
    "plot",
    "results",
    "sample_scenarios",
    "set_scenarios",
]
