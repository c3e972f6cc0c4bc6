"""What moves the local venue's markets: a synthetic market, or captured frames."""

from __future__ import annotations
