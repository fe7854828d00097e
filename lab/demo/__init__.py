"""The story that `panel-sync demo` tells: real calls, real faults, and what the panel makes of them.

The command line starts the processes and passes them on as a `lab.demo.stage.Stage`; the story happens here.
"""
