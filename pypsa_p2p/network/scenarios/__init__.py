"""Scenarios: set, sampled, drawn by a copula, or days of a history."""
