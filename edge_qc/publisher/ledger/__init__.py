"""The outbox on disk: its SQLite file, its writer, its recovery and its audit."""
