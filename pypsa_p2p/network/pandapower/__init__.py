"""Networks of pandapower as PyPSA's, one kind of element a file."""
