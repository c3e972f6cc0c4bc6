"""The native signer: finding it, what it takes and gives, and proof that it does so."""
