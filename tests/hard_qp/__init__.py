"""Quadratic programs as hard as those of the Maros-Meszaros set, with optima that are known."""
