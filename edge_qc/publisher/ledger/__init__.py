"""What the publisher keeps on disk: the outbox, its SQLite file, its recovery and its audit."""
