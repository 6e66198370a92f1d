"""A running station: opens its rooms, runs the daemon, and carries out commands."""
