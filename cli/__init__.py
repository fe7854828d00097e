"""The command line: `panel-sync`, one module per group of commands."""
