"""The parts of one account on one network, put together: what is shared, what trades, what only looks."""
