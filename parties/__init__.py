"""Processes, storage, network, people's interfaces: everything that does I/O."""
