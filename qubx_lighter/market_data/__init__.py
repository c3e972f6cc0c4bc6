"""From the channels of the venue onto Qubx's channel."""
