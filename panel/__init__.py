"""The panel's store: settings, tables, sessions, the journal (the only writer of records), observations and logging."""
