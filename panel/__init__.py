"""The record: settings, tables, sessions, the journal (the only writer of VPS rows) and logging."""
