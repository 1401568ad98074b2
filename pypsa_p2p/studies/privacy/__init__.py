"""What privacy costs: the equilibrium of reports that deviate and hold noise."""
