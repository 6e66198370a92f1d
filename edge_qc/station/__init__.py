"""A running station: its rooms opened, the daemon around them, and the commands it takes."""
