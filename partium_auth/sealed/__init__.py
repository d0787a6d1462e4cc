"""Secrets as they are stored: encryption keys and sealed values, which only this site can open."""
