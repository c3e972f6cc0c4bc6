"""The way of a transaction to the venue: who goes next, with which nonce, what an answer means, what nobody answered."""
