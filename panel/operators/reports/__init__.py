"""Reports for operators, made of the stored state: what cannot be judged, what differs, what runs unpaid or is paid and
missing, what was deleted. They only read."""
