"""Numbers only: nothing here knows PyPSA, linopy or prosumers."""
