"""Child processes: started in order, watched, ended with their parent."""
