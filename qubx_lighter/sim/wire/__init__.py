"""How the venue writes what it shows: rows and frames."""
