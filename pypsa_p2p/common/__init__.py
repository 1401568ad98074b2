"""The ground: names, errors, PyPSA's tables as labelled arrays."""
