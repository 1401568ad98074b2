"""The one home of every dimension, carrier, column and model-object name."""

from __future__ import annotations

from typing import Final

# Dimensions of labelled arrays.
SCENARIO: Final = "scenario"
SNAPSHOT: Final = "snapshot"
PROSUMER: Final = "prosumer"
TRADE: Final = "trade"
CONTRACT: Final = "contract"
CONTRACT_NAME: Final = "contract_name"  # the same in results, where `contract` is a variable
NAME: Final = "name"  # PyPSA's dimension of components

# Carriers, which say what a component is in the market.
PROSUMER_CARRIER: Final = "prosumer"
TRADE_CARRIER: Final = "p2p"
ELASTIC_DEMAND_CARRIER: Final = "elastic demand"
GENERATION_CARRIER: Final = "flexible generation"
RENEWABLE_CARRIER: Final = "renewable"
DEMAND_BID_CARRIER: Final = "demand bid"
SUPPLY_BID_CARRIER: Final = "supply bid"
#: Generators that are consumption: what an elastic demand gives up, and what bids buy.
CONSUMPTION: Final = (ELASTIC_DEMAND_CARRIER, DEMAND_BID_CARRIER)
RETAIL_IMPORT_CARRIER: Final = "retail import"
RETAIL_EXPORT_CARRIER: Final = "retail export"
IMBALANCE_CARRIER: Final = "imbalance"
CARRIERS: Final = (
    PROSUMER_CARRIER,
    TRADE_CARRIER,
    ELASTIC_DEMAND_CARRIER,
    GENERATION_CARRIER,
    RENEWABLE_CARRIER,
    DEMAND_BID_CARRIER,
    SUPPLY_BID_CARRIER,
    RETAIL_IMPORT_CARRIER,
    RETAIL_EXPORT_CARRIER,
    IMBALANCE_CARRIER,
)
RETAIL_CARRIERS: Final = (RETAIL_IMPORT_CARRIER, RETAIL_EXPORT_CARRIER)
#: Contracts that bring energy from outside, and may have no limit.
CONTRACT_CARRIERS: Final = (*RETAIL_CARRIERS, IMBALANCE_CARRIER)

# PyPSA's carriers of electricity.
AC: Final = "AC"
DC: Final = "DC"

# Suffixes of the components that belong to a prosumer's bus: "<prosumer> demand", ...
DEMAND_SUFFIX: Final = " demand"  # Load, p_set = D*
ELASTIC_DEMAND_SUFFIX: Final = " elastic demand"  # Generator, p = D* - D
GENERATION_SUFFIX: Final = " generation"  # Generator, p = G
RENEWABLE_SUFFIX: Final = " renewable"  # Generator, must-take

# Columns of n.buses (a prosumer's data).
RISK_ATTITUDE: Final = "risk_attitude"  # chi, in [0, 1)
USAGE_BENEFIT: Final = "usage_benefit"  # b tilde, EUR/h
FIXED_COST: Final = "fixed_cost"  # d, EUR/h
GRID_BUS: Final = "grid_bus"  # bus of the physical grid, or ""
OWN_SURPLUS: Final = "own_surplus"  # whether she sells only what her own assets leave over
ROLE: Final = "role"  # "prosumer", or "operator" of what the community shares
CONNECTION: Final = "connection"  # bus at which her part of the grid meets the world, or ""
IMPORT_PRICE: Final = "import_price"  # n.c.buses.dynamic, EUR/MWh
PROSUMER_COLUMNS: Final = (
    RISK_ATTITUDE, USAGE_BENEFIT, FIXED_COST, GRID_BUS, ROLE, OWN_SURPLUS, CONNECTION, IMPORT_PRICE,
)  # fmt: skip

# When a trade is decided: before the scenario is known, or in it.
DAY_AHEAD: Final = "day-ahead"
REAL_TIME: Final = "real-time"

# What a prosumer's role may be.
OPERATOR: Final = "operator"
ROLES: Final = (PROSUMER, OPERATOR)

# Columns of n.links (a trade edge's data).
PRICE0: Final = "price0"  # price of the agent at bus0, EUR/MWh
PRICE1: Final = "price1"  # price of the agent at bus1, EUR/MWh
CONGESTION: Final = "congestion"  # a, EUR/MW2h
FEE0: Final = "fee0"  # fee that the agent at bus0 pays, EUR/MWh
FEE1: Final = "fee1"  # fee that the agent at bus1 pays, EUR/MWh
DECIDED: Final = "decided"  # when what is traded over the edge is settled
TRADE_COLUMNS: Final = (PRICE0, PRICE1, CONGESTION, FEE0, FEE1, DECIDED)
#: Those of them that may vary in time, and are then series of n.links_t.
TRADE_SERIES: Final = (PRICE0, PRICE1, FEE0, FEE1)

#: Column of generators: most that a retail contract allows, MW, infinite without limit.
RETAIL_CAPACITY: Final = "retail_capacity"
#: Column of generators: whether their set point is the optimiser's to move, as in pandapower.
CONTROLLABLE: Final = "controllable"
SLACK: Final = "Slack"  # PyPSA's `control` of the generator at a grid's connection

# What a solved market notes in n.meta.
META: Final = "p2p"  # n.meta["p2p"]: which market was solved
TERMS: Final = "contract_terms"  # in it: prices and volumes of contracts
#: In it: whether the two ends' zeta differ, so that RECIPROCITY1 must be read.
OWN_MULTIPLIERS: Final = "own_multipliers"
#: In it: what another EUR of each prosumer's cost adds to what a planner minimises, and what her
#: cost is compared with, EUR, where she compares costs.
WELFARE_WEIGHT: Final = "welfare_weight"
REFERENCE_COST: Final = "reference_cost"

# Columns and series that a solved market writes.
RISK_ADJUSTED_PROBABILITY: Final = "risk_adjusted_probability"  # column of n.buses
#: Columns of n.buses, with contracts: what W pays a prosumer, and J, EUR in the scenario.
CONTRACT_PAYOUT: Final = "contract"
INSURANCE: Final = "insurance"
#: Columns of n.links that make PyPSA keep the multipliers of constraints with these endings:
#: zeta of (1), and xi of (2) for the prosumers at bus0 and at bus1.
KEPT_DUALS: Final = ("mu_reciprocity", "mu_capacity0", "mu_capacity1")
#: Column of n.links_t: zeta of (1) for the prosumer at bus1, where it differs from that of the
#: one at bus0, which is then "mu_reciprocity".
RECIPROCITY1: Final = "mu_reciprocity1"
#: Series of n.buses_t and n.links_t with prices in scenarios that a prosumer does not weigh,
#: EUR/MWh of the scenario, NaN where there is none: of energy and of the grid at her bus; of
#: the edge and of its capacity to the prosumers at bus0 and at bus1.
UNWEIGHED_PRICE: Final = "unweighed_price"
UNWEIGHED_GRID_PRICE: Final = "unweighed_grid_price"
UNWEIGHED_TRADE_PRICES: Final = ("unweighed_trade_price0", "unweighed_trade_price1")
UNWEIGHED_CAPACITY_PRICES: Final = ("unweighed_capacity_price0", "unweighed_capacity_price1")
#: Series of n.buses_t: 1 where the price of energy is one of a range, else 0.
PRICE_IN_RANGE: Final = "price_in_range"
#: The series that are there only where there is something to say, by class.
PRICE_SERIES: Final = {
    "Bus": (UNWEIGHED_PRICE, UNWEIGHED_GRID_PRICE, PRICE_IN_RANGE),
    "Link": (*UNWEIGHED_TRADE_PRICES, *UNWEIGHED_CAPACITY_PRICES),
}
#: All of them, by class.
MARKET_RESULTS: Final = {
    "Bus": (RISK_ADJUSTED_PROBABILITY, CONTRACT_PAYOUT, INSURANCE, *PRICE_SERIES["Bus"]),
    "Link": (*KEPT_DUALS, RECIPROCITY1, *PRICE_SERIES["Link"]),
}
MARKET_SERIES: Final = {
    "Bus": ("net_import", "surplus", *PRICE_SERIES["Bus"]),
    "Link": MARKET_RESULTS["Link"],
}
