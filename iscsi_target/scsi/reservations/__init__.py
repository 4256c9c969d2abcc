"""Persistent and SPC-2 reservations as pure state and transitions, and what other targets do differently."""
