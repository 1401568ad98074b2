"""A solved market: results, prices, power flow, and its proof."""
