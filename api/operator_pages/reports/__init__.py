"""The pages of operators' reports: coverage, drift, money, deleted VPS, the journal. They only show."""
