"""Who is this? Login flows on top of ``mozilla_django_oidc``, identities, log-out."""
