"""The local Lighter venue: the same REST and WebSocket protocol with a matching engine, for one laptop, without keys."""
