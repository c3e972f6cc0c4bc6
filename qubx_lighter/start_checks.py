"""What is compared with the venue at start, before anything is signed: the network, the collateral, the API key's rights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from loguru import logger

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import COLLATERAL_ASSET_ID, RESERVED_API_KEYS
from qubx_lighter.errors import ConfigurationError, LighterError
from qubx_lighter.settings import LighterSettings

_UNKNOWN_NETWORK: Final = 0  # what a venue says that does not tell


async def check_network(client: LighterClient, settings: LighterSettings, chain_id: int) -> None:
    """Compare the chain id that transactions will be signed for with what the venue says of itself.

    A venue that says nothing, or cannot be asked, is believed: it refuses what is signed for another chain (21120).

    Raises:
        ConfigurationError: they differ.
    """
    try:
        told = (await client.status()).network_id
    except LighterError as error:
        logger.warning("lighter: the venue's network could not be checked: {}", error)
        return
    if told not in (_UNKNOWN_NETWORK, chain_id):
        raise ConfigurationError(
            f"{settings.base_url} says that its network id is {told}, and chain_id is {chain_id}: every transaction "
            f"would be refused. Correct params.network (now {settings.network}), or base_url and chain_id"
        )


async def confirm_collateral(client: LighterClient, settings: LighterSettings) -> LighterSettings:
    """Return the settings with the collateral that the venue names; a venue that cannot be asked leaves them as they are.

    Raises:
        ConfigurationError: the user has set another one.
    """
    try:
        asset = await client.money.asset(COLLATERAL_ASSET_ID)
    except LighterError as error:
        logger.debug("lighter: the collateral's name could not be checked: {}", error)
        return settings
    told = asset.symbol.upper()
    if told == settings.collateral:
        return settings
    if settings.collateral_is_chosen:
        raise ConfigurationError(
            f"params.collateral is {settings.collateral}, and positions at {settings.base_url} are margined in {told}: "
            f"set it to {told}, or leave it out"
        )
    logger.info("lighter: positions at {} are margined in {}", settings.base_url, told)
    return settings.model_copy(update={"collateral": told})


async def maker_only_among(client: LighterClient, account_index: int, api_key_indexes: Iterable[int]) -> set[int]:
    """Tell which of the keys may place nothing but post-only orders; none where the venue does not say."""
    try:
        found = set(api_key_indexes) & set(await client.money.maker_only_keys(account_index))
    except LighterError as error:
        logger.info("lighter: which API keys are maker-only could not be asked: {}", error)
        return set()
    for api_key_index in sorted(found):
        logger.warning(
            "lighter: API key {} of account {} is maker-only: it places post-only orders, amends and cancels, "
            "nothing else; market and taking orders are refused here",
            api_key_index,
            account_index,
        )
    return found


def warn_of_reserved_key(api_key_index: int) -> None:
    """Warn where the key's index is one that the venue's own apps use: they may replace the key, or take its nonces."""
    if api_key_index in RESERVED_API_KEYS:
        logger.warning(
            "lighter: API key index {} belongs to the venue's web and mobile apps ({} to {}): register a key at 4 or "
            "above, or the apps' nonces and this program's get in each other's way",
            api_key_index,
            RESERVED_API_KEYS[0],
            RESERVED_API_KEYS[-1],
        )
