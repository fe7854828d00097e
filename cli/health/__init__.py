"""`panel-sync doctor` checks each dependency: what is wrong with it, and how to repair it."""
