"""The machine and the process: state, watchdog, service manager, control socket, board."""
