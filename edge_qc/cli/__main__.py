"""``python -m edge_qc.cli``, for launchers that want a module (torchrun, systemd's self-test)."""

from edge_qc.cli import main

main()
