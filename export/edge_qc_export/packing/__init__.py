"""A bundle's files: what goes into one, written whole, signed and packed. No torch."""
