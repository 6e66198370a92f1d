"""What the publisher has on the wire: the connection to the broker, and what passes over it."""
