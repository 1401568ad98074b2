"""Numeric solvers: arrays in, arrays out; nothing here knows PyPSA, linopy or prosumers."""
