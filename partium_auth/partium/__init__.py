"""Partium's HTTP API. Knows nothing of Django.

- ``auth``: obtain access tokens (Authentication API);
- ``find``: search for parts (Find API);
- ``responses``: read what a token endpoint answers.
"""
