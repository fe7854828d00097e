"""The story that `panel-sync demo` plays: real calls, real faults, and how the panel repairs them.

The command line starts the processes and passes them on as a `lab.demo.stage.Stage`. The story is here.
"""
