"""The read side of an account, which trades or only looks: its processor, and what it shares with the write side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from qubx.connectors.plugin import ConnectorBuildContext

from qubx_lighter.account import LighterAccountProcessor
from qubx_lighter.accounts.queries import AccountQueries
from qubx_lighter.assembly.gateway import Gateway
from qubx_lighter.handlers.account import AccountConverter
from qubx_lighter.handlers.money import Wallet
from qubx_lighter.protocol.orders import ClientIds
from qubx_lighter.protocol.requests import RequestBook
from qubx_lighter.protocol.venue_clock import VenueClock
from qubx_lighter.protocol.wire import PositionRow, TxRow
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.websocket import LighterWebSocketManager


class Reading(NamedTuple):
    """The parts of the read side."""

    converter: AccountConverter
    requests: RequestBook
    processor: LighterAccountProcessor


def build_reading(
    gateway: Gateway,
    ctx: ConnectorBuildContext,
    *,
    account_index: int,
    api_key_index: int,
    socket: LighterWebSocketManager,
    recoveries: Recoveries,
    learn: Callable[[Iterable[PositionRow]], None],
    on_transaction: Callable[[TxRow], None],
) -> Reading:
    """Put the read side together.

    Args:
        gateway: the shared parts.
        ctx: what Qubx gives a plugin.
        account_index: whose account.
        api_key_index: the first key's, by which client ids are known as ours.
        socket: the account socket.
        recoveries: acts on what the sequencer refuses.
        learn: takes each row of a position, from snapshots and pushes (margin settings listen).
        on_transaction: called with each executed or failed transaction.
    """
    exchange, collateral = ctx.exchange_name.upper(), gateway.settings.collateral
    requests = RequestBook()
    converter = AccountConverter(
        exchange=exchange,
        account_index=account_index,
        collateral=collateral,
        instruments=gateway.instruments,
        ids=ClientIds(api_key_index),
    )
    wallet = Wallet(exchange, collateral)
    clock = VenueClock()
    queries = AccountQueries(
        client=gateway.client,
        converter=converter,
        instruments=gateway.instruments,
        requests=requests,
        wallet=wallet,
        time_provider=ctx.time_provider,
        clock=clock,
        on_account=lambda row: learn(row.positions or []),
    )
    processor = LighterAccountProcessor(
        converter=converter,
        client=gateway.client,
        queries=queries,
        socket=socket,
        instruments=gateway.instruments,
        requests=requests,
        wallet=wallet,
        emit=ctx.channel.send,
        time_provider=ctx.time_provider,
        clock=clock,
        health=ctx.health_monitor,
        recoveries=recoveries,
        on_transaction=on_transaction,
        on_positions=learn,
        loop=gateway.loop,
    )
    return Reading(converter, requests, processor)
