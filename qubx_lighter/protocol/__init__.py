"""Lighter's protocol as pure code: no clock, no await, no socket, no Qubx."""
