"""Everything between a PyPSA model and arrays, both ways."""
