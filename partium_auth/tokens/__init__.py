"""Is there a valid token? Windows (pure), grant states, access query and memo, rules, refresh, manager, workers, cleanup."""
