"""Connect Qubx to Lighter, an order-book perpetuals exchange.

Importing this package does nothing: no threads, no loops, no SDK, no logging changes.
Qubx finds the connector through the entry point ``lighter = qubx_lighter.plugin:PLUGIN``, and the history storage
``lighter`` through that or through ``plugins: {modules: [qubx_lighter]}``.
"""

import sys
from importlib import import_module

__version__ = "0.1.0"

# Only where Qubx runs, which has imported its registry before it imports a plugin: alone this package stays light.
if "qubx.data.registry" in sys.modules:
    import_module("qubx_lighter.storage")
    import_module("qubx_lighter.parquet_storage")
