"""Logging in and out: the flow, the login page, back-channel log-out. The protocol itself is in ``partium_auth.oidc``."""
