"""Connect Qubx to Lighter, an order-book perpetuals exchange.

Importing this package does nothing: no threads, no loops, no SDK, no logging changes.
Qubx finds the connector through the entry point ``lighter = qubx_lighter.plugin:PLUGIN``.
"""

__version__ = "0.1.0"
