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
CARRIERS: Final = (
    PROSUMER_CARRIER,
    TRADE_CARRIER,
    ELASTIC_DEMAND_CARRIER,
    GENERATION_CARRIER,
    RENEWABLE_CARRIER,
)

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
IMPORT_PRICE: Final = "import_price"  # n.c.buses.dynamic, EUR/MWh

# Columns of n.links (a trade edge's data).
PRICE0: Final = "price0"  # price of the agent at bus0, EUR/MWh
PRICE1: Final = "price1"  # price of the agent at bus1, EUR/MWh
CONGESTION: Final = "congestion"  # a, EUR/MW2h
