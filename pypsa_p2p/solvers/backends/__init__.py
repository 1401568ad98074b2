"""One way of solving, one file."""
