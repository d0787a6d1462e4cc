"""Is there a valid token? Windows (pure), grants (the rows), sources (how each kind is renewed), token_manager (single flight)."""
