"""Who pays what: the cost of a solved market allocated to its prosumers (MODEL.md §10)."""
