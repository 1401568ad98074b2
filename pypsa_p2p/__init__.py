"""Risk-averse peer-to-peer electricity markets on PyPSA networks."""

from pypsa_p2p.common.errors import ConvergenceError, DataError, MarketError, P2PError
from pypsa_p2p.equilibrium.admm import ADMM
from pypsa_p2p.equilibrium.gauss_seidel import GaussSeidel, Jacobi
from pypsa_p2p.equilibrium.sampling import sample_equilibria
from pypsa_p2p.equilibrium.solving import Equilibrium, solve_equilibrium
from pypsa_p2p.markets.base import Market
from pypsa_p2p.markets.contracts import Contracts
from pypsa_p2p.markets.covers import (
    Ambiguity,
    Semideviation,
    Spectral,
    TotalVariation,
    Wasserstein,
)
from pypsa_p2p.markets.cvar import CVaR
from pypsa_p2p.markets.designs import CentralizedMarket, PeerToPeerMarket
from pypsa_p2p.markets.divergences import ChiSquare, EntropicVaR, KullbackLeibler
from pypsa_p2p.markets.products import (
    contract_for_difference,
    forward,
    power_purchase_agreement,
    price_cap,
)
from pypsa_p2p.markets.risk import RiskMeasure, WorstCase
from pypsa_p2p.markets.social_cost import Leximin, Maximin, Nash, SocialCost, Utilitarian
from pypsa_p2p.network.assignment.assigning import assign_prosumers
from pypsa_p2p.network.assignment.releasing import release_prosumers
from pypsa_p2p.network.bundled_grids import list_grids, load_grid
from pypsa_p2p.network.imbalance import add_imbalance
from pypsa_p2p.network.pandapower.conversion import from_pandapower
from pypsa_p2p.network.prosumers import add_prosumers
from pypsa_p2p.network.retail import add_retail
from pypsa_p2p.network.scenarios.copula import sample_copula
from pypsa_p2p.network.scenarios.history import scenarios_from_history
from pypsa_p2p.network.scenarios.sampling import sample_scenarios
from pypsa_p2p.network.scenarios.setting import set_scenarios
from pypsa_p2p.network.tariffs import distance_fees, voltage_fees, zone_fees
from pypsa_p2p.network.trades import add_trades
from pypsa_p2p.solution import prices
from pypsa_p2p.solution.bills import bills
from pypsa_p2p.solution.certificate.certificate import Certificate
from pypsa_p2p.solution.certificate.certify import certify
from pypsa_p2p.solution.power_flow import check_power_flow, power_flow_violations
from pypsa_p2p.solution.price_ranges import price_range
from pypsa_p2p.solution.results import results
from pypsa_p2p.solution.savings import savings, without_trades
from pypsa_p2p.solution.settlement.settle import settle
from pypsa_p2p.studies.allocation.allocating import allocate
from pypsa_p2p.studies.comparison import compare
from pypsa_p2p.studies.fairness import fairness
from pypsa_p2p.studies.invariance import welfare_invariance
from pypsa_p2p.studies.plot import pictures as plot
from pypsa_p2p.studies.privacy.options import PrivateReports
from pypsa_p2p.studies.privacy.reporting import report
from pypsa_p2p.studies.privacy.solving import solve_reports
from pypsa_p2p.studies.sweeping import sweep

__version__ = "0.1.0"

__all__ = [
    "ADMM",
    "Ambiguity",
    "CVaR",
    "CentralizedMarket",
    "Certificate",
    "ChiSquare",
    "Contracts",
    "ConvergenceError",
    "DataError",
    "EntropicVaR",
    "Equilibrium",
    "GaussSeidel",
    "Jacobi",
    "KullbackLeibler",
    "Leximin",
    "Market",
    "MarketError",
    "Maximin",
    "Nash",
    "P2PError",
    "PeerToPeerMarket",
    "PrivateReports",
    "RiskMeasure",
    "Semideviation",
    "SocialCost",
    "Spectral",
    "TotalVariation",
    "Utilitarian",
    "Wasserstein",
    "WorstCase",
    "add_imbalance",
    "add_prosumers",
    "add_retail",
    "add_trades",
    "allocate",
    "assign_prosumers",
    "bills",
    "certify",
    "check_power_flow",
    "compare",
    "contract_for_difference",
    "distance_fees",
    "fairness",
    "forward",
    "from_pandapower",
    "list_grids",
    "load_grid",
    "plot",
    "power_flow_violations",
    "power_purchase_agreement",
    "price_cap",
    "price_range",
    "prices",
    "release_prosumers",
    "report",
    "results",
    "sample_copula",
    "sample_equilibria",
    "sample_scenarios",
    "savings",
    "scenarios_from_history",
    "set_scenarios",
    "settle",
    "solve_equilibrium",
    "solve_reports",
    "sweep",
    "voltage_fees",
    "welfare_invariance",
    "without_trades",
    "zone_fees",
]
