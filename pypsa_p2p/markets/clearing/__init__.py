"""From a compiled model to the market's one solution, or why it has none."""
