"""OpenID Connect as a relying party sees it: provider, discovery, keys, tokens. Knows no users and no sessions."""
