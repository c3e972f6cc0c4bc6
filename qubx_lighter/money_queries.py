"""REST reads about money and accounts beside trading; ``LighterClient.money`` gives them.

Public ones need no key. Private ones are asked with the client's token, which an account's API key mints.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from qubx_lighter.errors import ConfigurationError
from qubx_lighter.protocol import account_rows as rows
from qubx_lighter.rest import Paged, Rest

_PAGE: Final = 100


class MoneyQueries:
    """Ask about assets, fees, histories, sub-accounts, pools and limits; raises what ``LighterClient``'s reads raise."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    # --- public ------------------------------------------------------------------------------------------------------

    async def assets(self) -> list[rows.Asset]:
        """List the venue's assets."""
        return (await self._rest.get(rows.AssetsBody, "/api/v1/assetDetails")).asset_details or []

    async def asset(self, asset: str | int) -> rows.Asset:
        """Find an asset by its symbol, in any case, or its id.

        Raises:
            ConfigurationError: the venue has no such asset; the text lists those that there are.
        """
        known = await self.assets()
        wanted = asset.upper() if isinstance(asset, str) else asset
        for row in known:
            if wanted in (row.symbol.upper(), row.asset_id):
                return row
        listed = ", ".join(f"{row.symbol} ({row.asset_id})" for row in known) or "none"
        raise ConfigurationError(f"the venue has no asset {asset!r}: there is {listed}")

    async def accounts(self, l1_address: str) -> list[rows.SubAccount]:
        """List the accounts of an owner: the first, its sub-accounts, its pools."""
        pages = self._rest.pages(rows.SubAccountsBody, "/api/v1/accountsByL1Address", l1_address=l1_address)
        return await _rows(pages, lambda page: page.sub_accounts, limit=None)

    async def withdrawal_delay_s(self) -> int:
        """Tell how long a withdrawal takes at present until it can be claimed."""
        return (await self._rest.get(rows.WithdrawalDelayBody, "/api/v1/withdrawalDelay")).seconds

    async def pools(
        self, *, first_index: int = 0, limit: int = _PAGE, account_index: int | None = None
    ) -> list[rows.Pool]:
        """List public pools, ``limit`` (at most 100) from ``first_index`` on; with an account, what it holds (private)."""
        body = await self._rest.get(
            rows.PoolsBody,
            "/api/v1/publicPoolsMetadata",
            private=account_index is not None,
            index=first_index,
            limit=min(limit, _PAGE),
            filter="all",
            account_index=account_index,
        )
        return body.public_pools or []

    # --- private -----------------------------------------------------------------------------------------------------

    async def limits(self, account_index: int) -> rows.AccountLimits:
        """Tell the account's tier, its fees and what it may do."""
        return await self._rest.get(
            rows.AccountLimits, "/api/v1/accountLimits", private=True, account_index=account_index
        )

    async def maker_only_keys(self, account_index: int) -> list[int]:
        """List the indexes of the account's API keys that may place nothing but post-only orders."""
        body = await self._rest.get(
            rows.MakerOnlyBody, "/api/v1/getMakerOnlyApiKeys", private=True, account_index=account_index
        )
        return body.api_key_indexes or []

    async def transfer_fee_units(self, account_index: int, to_account_index: int | None = None) -> int:
        """Tell what a transfer costs, in millionths of the collateral."""
        body = await self._rest.get(
            rows.TransferFeeBody,
            "/api/v1/transferFeeInfo",
            private=True,
            account_index=account_index,
            to_account_index=to_account_index,
        )
        return body.transfer_fee_usdc

    async def fast_withdrawal_info(self, account_index: int) -> rows.FastWithdrawalInfo:
        """Tell how much can leave at once, and through which account."""
        return await self._rest.get(
            rows.FastWithdrawalInfo, "/api/v1/fastwithdraw/info", private=True, account_index=account_index
        )

    async def deposits(self, account_index: int, l1_address: str, *, limit: int | None = None) -> list[rows.Deposit]:
        """List the deposits of an account, newest first; all of them, or the newest ``limit``."""
        pages = self._rest.pages(
            rows.DepositsBody,
            "/api/v1/deposit/history",
            private=True,
            account_index=account_index,
            l1_address=l1_address,
            filter="all",
        )
        return await _rows(pages, lambda page: page.deposits, limit=limit)

    async def withdrawals(self, account_index: int, *, limit: int | None = None) -> list[rows.Withdrawal]:
        """List the withdrawals of an account, newest first; all of them, or the newest ``limit``."""
        pages = self._rest.pages(
            rows.WithdrawalsBody, "/api/v1/withdraw/history", private=True, account_index=account_index, filter="all"
        )
        return await _rows(pages, lambda page: page.withdraws, limit=limit)

    async def transfers(self, account_index: int, *, limit: int | None = None) -> list[rows.Transfer]:
        """List the transfers of an account, newest first; all of them, or the newest ``limit``."""
        pages = self._rest.pages(
            rows.TransfersBody, "/api/v1/transfer/history", private=True, account_index=account_index
        )
        return await _rows(pages, lambda page: page.transfers, limit=limit)


async def _rows[P: Paged, T](
    pages: AsyncIterator[P], rows_of: Callable[[P], list[T] | None], *, limit: int | None
) -> list[T]:
    """Put pages together until one is empty, or there are ``limit`` rows."""
    found: list[T] = []
    async for page in pages:
        some = rows_of(page) or []
        found += some
        if not some or (limit is not None and len(found) >= limit):
            break
    return found[:limit]
