"""Compares this target with LIO, which runs in a guest: the same goes to both, and every difference is judged."""
