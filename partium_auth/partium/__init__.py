"""Partium's HTTP API. Knows nothing of Django.

- ``authentication``: exchange credentials for access tokens (Authentication API), with ``token_response``;
- ``client``: the bearer, its replacement after a 401, and anything that the API answers;
- ``search``: what to look for, as a request; ``results``: what Partium found.
"""
