"""Pictures of markets and of how agents get there."""
