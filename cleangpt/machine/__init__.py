"""The machine that computes: devices, processes, signals."""
