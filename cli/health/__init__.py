"""`panel-sync doctor`: each dependency, what is wrong with it and how to mend it."""
