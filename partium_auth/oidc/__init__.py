"""OpenID Connect, the protocol: providers, discovery, keys, ID tokens, the token endpoint. No users, no sessions."""
