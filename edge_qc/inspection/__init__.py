"""From frame to verdict: view, decision, part, and the pass that joins them with the engine."""
