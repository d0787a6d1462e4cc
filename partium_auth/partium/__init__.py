"""Partium's HTTP API. Knows nothing of Django.

- ``auth``: obtain access tokens (Authentication API);
- ``find``: search for parts (Find API), with ``photos`` on their way there and ``parts`` on their way back;
- ``responses``: read what a token endpoint answers.
"""
