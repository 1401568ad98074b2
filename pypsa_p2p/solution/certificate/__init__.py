"""Proof of a solution from the network's tables alone."""
