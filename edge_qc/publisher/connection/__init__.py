"""The connection to the broker, and everything that passes over it."""
