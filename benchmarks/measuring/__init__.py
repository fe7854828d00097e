"""Instruments: load, CPU and memory of processes, the check that nothing was lost, table and plot."""
