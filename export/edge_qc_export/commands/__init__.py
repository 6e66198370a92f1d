"""The workstation's commands, one file each; `edge-qc` finds them by entry point."""
