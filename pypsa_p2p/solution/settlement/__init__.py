"""Who pays whom for what was traded: at the market's prices, or by another rule."""
