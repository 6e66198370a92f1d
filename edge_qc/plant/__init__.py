"""What a server of the plant runs: recorder, dashboard, notices, fleet. No station imports it."""
