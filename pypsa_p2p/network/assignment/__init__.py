"""Assets of an existing network given to prosumers, and given back."""
