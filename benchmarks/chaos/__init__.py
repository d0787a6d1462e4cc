"""``python -m benchmarks.chaos``: what a site with partium_auth does while things around it break."""
