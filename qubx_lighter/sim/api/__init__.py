"""The venue on the network: REST, WebSocket, keys, limits."""
