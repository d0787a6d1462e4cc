"""A guest in someone's site: the app in hosts of many kinds, attacked and looked at by a picky developer."""
