"""From labelled views to a trained run: networks, losses, epochs, and the run folder."""
