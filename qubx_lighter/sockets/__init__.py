"""A WebSocket of any venue, in parts: which library, who hears what, which reply is whose."""
