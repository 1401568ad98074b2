"""PyPSA networks with prosumers: made, read, and given back."""
