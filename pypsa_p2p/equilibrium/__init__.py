"""How agents get there."""
