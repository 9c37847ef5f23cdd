"""The machine: child processes, cores, memory, devices, compiled programs."""
