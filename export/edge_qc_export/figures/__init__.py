"""How good predictions are, by class name and at what cost. No network is asked here."""
