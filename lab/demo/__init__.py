"""The story that `panel-sync demo` tells: real calls, real faults, and what the panel makes of them.

The command line starts the processes and hands them over as a `lab.demo.stage.Stage`; here is what happens on it.
"""
