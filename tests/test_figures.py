"""Mark price, index price, premium and funding of a market, from the venue to the strategy."""

from __future__ import annotations

from pathlib import Path

from qubx.core.basics import FundingRate

from tests.live import ETH, LiveVenue, desk_on


def test_figures_have_an_index_price_of_their_own_and_the_premium_is_the_difference(tmp_path: Path) -> None:
    venue = LiveVenue(tmp_path, markets=["ETH"])
    try:
        venue.quote(ETH, 299_900, 300_100)
        with desk_on(venue) as desk:
            eth = desk.instrument("ETH-USDC")
            desk.provider.subscribe("funding_rate", {eth})
            rates: list[FundingRate] = []

            def fresh() -> bool:
                rates[:] = [message[2] for message in desk.data if isinstance(message[2], FundingRate)]
                return bool(rates)

            desk.until(fresh)
            figures = desk.provider.get_figures(eth)  # type: ignore[attr-defined]
            assert (3000.0, 3000.0) == (figures.mark_price, rates[-1].mark_price)
            assert figures.index_price != figures.mark_price
            assert abs((figures.mark_price / figures.index_price - 1) * 100 - float(figures.premium)) < 0.0003
            hour = figures.funding_timestamp // 3_600_000
            settled = venue.ask(lambda: venue.engine.history(ETH).funding_rate(hour))
            assert settled / 1e4 == figures.funding_rate
            assert (rates[-1].mark_price, figures.index_price) == (3000.0, rates[-1].index_price)
            assert abs(figures.current_funding_rate / 100 - rates[-1].rate) < 2e-6
    finally:
        venue.close()
