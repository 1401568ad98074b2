"""Published optima of the Power Grid Library, pglib-opf: of its DC formulation."""
