"""Values that only this site can open: encryption keys and sealed values."""
