"""The venue without a network: commands in, results and events out."""
