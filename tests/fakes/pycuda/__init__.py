"""A stand-in for pycuda on a machine without a GPU: see ``driver``."""
