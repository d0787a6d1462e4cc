"""Adapters for other libraries. Nothing of the app imports them; each needs its own library."""
