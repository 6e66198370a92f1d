"""From frame to verdict: view, decision, part, and the step that joins them with the engine."""
