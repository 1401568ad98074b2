"""The game in arrays: what each agent decides, and her best answer."""
