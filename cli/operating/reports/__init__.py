"""Reports for operators by command line: what cannot be judged, what differs, what runs unpaid, what was deleted."""
