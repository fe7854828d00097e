"""The panel's store: settings, tables, sessions, the journal (the only writer of VPS rows), observations and
logging."""
