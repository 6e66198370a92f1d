"""What a server of the plant runs: recorder, dashboard, fleet. No station imports it."""
