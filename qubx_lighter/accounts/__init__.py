"""The parts of the read side: orders, deals, funding, money, and what is asked over REST."""
