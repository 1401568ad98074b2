"""Equilibria of the peer-to-peer game: how agents reach them, and proofs that they did."""
