"""LighterSettings: sources and their order, the venue's four parts, one-line errors without secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from qubx_lighter.errors import ConfigurationError
from qubx_lighter.settings import Credentials, LighterSettings

KEY = "0123456789abcdef" * 5
SIM = "http://127.0.0.1:8765"
ACCOUNT: dict[str, Any] = {
    "exchange": "LIGHTER",
    "name": "main",
    "api_key": "0xL1",
    "secret": f"0x{KEY}",
    "account_index": 7,
    "api_key_index": 4,
    "base_currency": "USDC",
    "testnet": False,
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("LIGHTER_")]:
        monkeypatch.delenv(name)


def message_of(params: dict[str, Any], credentials: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        LighterSettings.build(params, credentials)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- sources ----------------------------------------------------------------------------------------------------------


def test_defaults_are_mainnet_without_an_account() -> None:
    settings = LighterSettings.build({})
    assert ("mainnet", "https://mainnet.zklighter.elliot.ai", "wss://mainnet.zklighter.elliot.ai/stream", 304) == (
        settings.network,
        settings.base_url,
        settings.ws_url,
        settings.chain_id,
    )
    assert (0.01, 28.0, "BASE-QUOTE", "USDC", "error") == (
        settings.market_slippage,
        settings.order_expiry_days,
        settings.symbol_format,
        settings.collateral,
        settings.unknown_symbols,
    )
    assert settings.account_index is None


def test_params_beat_the_account_which_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT_INDEX", "API_KEY_INDEX", "ORDER_EXPIRY_DAYS"):
        monkeypatch.setenv(f"LIGHTER_{name}", "1")
    assert (1, 1, 1.0) == _three(LighterSettings.build({}))
    assert (7, 4, 1.0) == _three(LighterSettings.build({}, ACCOUNT))
    assert (9, 4, 2.0) == _three(LighterSettings.build({"account_index": 9, "order_expiry_days": 2}, ACCOUNT))


def _three(settings: LighterSettings) -> tuple[int | None, int | None, float]:
    return settings.account_index, settings.api_key_index, settings.order_expiry_days


def test_accounts_toml_names_are_translated_and_qubx_own_fields_ignored() -> None:
    settings = LighterSettings.build({}, ACCOUNT)
    assert "0xL1" == settings.l1_address
    assert Credentials(7, 4, SecretStr(f"0x{KEY}")) == settings.credentials()


def test_numbers_may_come_as_text() -> None:
    settings = LighterSettings.build({"account_index": "7", "market_slippage": "0.02"})
    assert (7, 0.02) == (settings.account_index, settings.market_slippage)


def test_none_in_params_means_not_given() -> None:
    assert 7 == LighterSettings.build({"account_index": None}, ACCOUNT).account_index


def test_empty_variables_mean_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTER_ACCOUNT_INDEX", "")
    assert LighterSettings.build({}).account_index is None


def test_a_dotenv_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("LIGHTER_ACCOUNT_INDEX=99\n")
    monkeypatch.chdir(tmp_path)
    assert LighterSettings.build({}).account_index is None


def test_settings_are_immutable() -> None:
    settings, name = LighterSettings.build({}), "account_index"
    with pytest.raises(ValidationError):
        setattr(settings, name, 1)


# --- the venue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "credentials"), [({"network": "testnet"}, None), ({}, {**ACCOUNT, "testnet": True})]
)
def test_testnet_brings_its_urls_and_chain(params: dict[str, Any], credentials: dict[str, Any] | None) -> None:
    settings = LighterSettings.build(params, credentials)
    assert ("https://testnet.zklighter.elliot.ai", "wss://testnet.zklighter.elliot.ai/stream", 300) == (
        settings.base_url,
        settings.ws_url,
        settings.chain_id,
    )


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        (SIM, (SIM, "ws://127.0.0.1:8765/stream", 304)),
        (f"{SIM}/api/v1/", (SIM, "ws://127.0.0.1:8765/stream", 304)),
        ("http://[::1]:8765", ("http://[::1]:8765", "ws://[::1]:8765/stream", 304)),
        ("http://localhost:8765", ("http://localhost:8765", "ws://localhost:8765/stream", 304)),
        ("https://proxy.test", ("https://proxy.test", "wss://proxy.test/stream", None)),
        ("https://127.proxy.test.", ("https://127.proxy.test.", "wss://127.proxy.test./stream", None)),
        (
            "https://testnet.zklighter.elliot.ai/",
            ("https://testnet.zklighter.elliot.ai", "wss://testnet.zklighter.elliot.ai/stream", 300),
        ),
    ],
)
def test_base_url_alone_is_enough(base_url: str, expected: tuple[str, str, int]) -> None:
    settings = LighterSettings.build({"base_url": base_url})
    assert expected == (settings.base_url, settings.ws_url, settings.chain_id)


@pytest.mark.parametrize(
    ("network", "base_url", "ws_url", "chain_id", "collateral"),
    [
        ("mainnet", "https://mainnet.zklighter.elliot.ai", "wss://mainnet.zklighter.elliot.ai/stream", 304, "USDC"),
        ("testnet", "https://testnet.zklighter.elliot.ai", "wss://testnet.zklighter.elliot.ai/stream", 300, "USDC"),
        ("robinhood", "https://api.rh.lighter.xyz", "wss://api.rh.lighter.xyz/stream", 466324, "USDG"),
        (
            "robinhood-testnet",
            "https://api.rh-testnet.lighter.xyz",
            "wss://api.rh-testnet.lighter.xyz/stream",
            300,
            "USDG",
        ),
    ],
)
def test_each_network_brings_its_urls_chain_and_collateral(
    network: str, base_url: str, ws_url: str, chain_id: int, collateral: str
) -> None:
    settings = LighterSettings.build({"network": network})
    expected = (network, base_url, ws_url, chain_id, collateral)
    assert expected == (
        settings.network,
        settings.base_url,
        settings.ws_url,
        settings.signing_chain_id(),
        settings.collateral,
    )
    assert settings == LighterSettings.build({"base_url": base_url})  # the address alone says the same


def test_a_custom_network_signs_for_the_chain_that_is_given() -> None:
    params = {"network": "custom", "base_url": "https://venue.test", "chain_id": 77, "collateral": "usde"}
    settings = LighterSettings.build(params)
    assert ("custom", "wss://venue.test/stream", 77, "USDE") == (
        settings.network,
        settings.ws_url,
        settings.signing_chain_id(),
        settings.collateral,
    )


def test_a_custom_address_without_a_chain_reads_and_signs_nothing() -> None:
    settings = LighterSettings.build({"base_url": "https://venue.test"})
    assert "custom" == settings.network
    with pytest.raises(ConfigurationError, match=r"chain_id is missing.*LIGHTER_CHAIN_ID.*params\.network") as caught:
        settings.signing_chain_id()
    assert "\n" not in str(caught.value)


def test_a_custom_network_needs_an_address() -> None:
    assert "network custom needs base_url" in message_of({"network": "custom"})


def test_two_networks_at_once_are_refused() -> None:
    params = {"network": "testnet", "base_url": "https://api.rh.lighter.xyz"}
    assert "is robinhood, and network is testnet: give one of them" in message_of(params)


def test_a_proxy_of_a_network_signs_for_it() -> None:
    settings = LighterSettings.build({"network": "robinhood", "base_url": "https://proxy.test"})
    assert ("https://proxy.test", "wss://proxy.test/stream", 466324, "USDG") == (
        settings.base_url,
        settings.ws_url,
        settings.signing_chain_id(),
        settings.collateral,
    )


def test_a_custom_address_of_the_testnet_signs_for_the_testnet() -> None:
    assert 300 == LighterSettings.build({"base_url": SIM, "network": "testnet"}).chain_id


def test_given_parts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTER_BASE_URL", SIM)
    monkeypatch.setenv("LIGHTER_WS_URL", "ws://127.0.0.1:1/ws")
    monkeypatch.setenv("LIGHTER_CHAIN_ID", "77")
    settings = LighterSettings.build({}, ACCOUNT)
    assert (SIM, "ws://127.0.0.1:1/ws", 77) == (settings.base_url, settings.ws_url, settings.chain_id)


def test_the_venue_comes_from_one_source_never_half_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTER_BASE_URL", SIM)
    monkeypatch.setenv("LIGHTER_WS_URL", "ws://127.0.0.1:1/stream")
    monkeypatch.setenv("LIGHTER_CHAIN_ID", "77")
    account = {**ACCOUNT, "base_url": "http://other.test", "chain_id": 78}
    from_account = LighterSettings.build({}, account)
    from_params = LighterSettings.build({"network": "testnet"}, account)
    assert ("http://other.test", "ws://other.test/stream", 78) == (
        from_account.base_url,
        from_account.ws_url,
        from_account.chain_id,
    )
    assert ("https://testnet.zklighter.elliot.ai", "wss://testnet.zklighter.elliot.ai/stream", 300) == (
        from_params.base_url,
        from_params.ws_url,
        from_params.chain_id,
    )


# --- errors -----------------------------------------------------------------------------------------------------------


def test_unknown_param_names_the_nearest_known_one() -> None:
    text = message_of({"acount_index": 1})
    assert "unknown param 'acount_index'" in text
    assert "did you mean 'account_index'?" in text
    assert "tx_timeout_s" in text


def test_wrong_network_names_the_known_ones() -> None:
    assert (
        "network 'mainet' is not known; did you mean 'mainnet'? (known: custom, mainnet, robinhood, robinhood-testnet, testnet)"
        in message_of({"network": "mainet"})
    )


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"market_slippage": 0}, "market_slippage"),
        ({"order_expiry_days": 31}, "order_expiry_days"),
        ({"order_wait_s": 25}, "order_wait_s"),
        ({"account_index": -1}, "account_index"),
        ({"api_key_index": 255}, "api_key_index"),
        ({"symbol_format": "BTC_USDC"}, "symbol_format"),
        ({"base_url": "venue.test"}, "base_url"),
        ({"base_url": SIM, "ws_url": SIM}, "ws_url"),
        ({"unknown_symbols": "ignore"}, "unknown_symbols"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_setting(params: dict[str, Any], name: str) -> None:
    assert name in message_of(params)


def test_a_wrong_variable_is_named_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTER_REST_TIMEOUT_S", "soon")
    assert "LIGHTER_REST_TIMEOUT_S" in message_of({})


@pytest.mark.parametrize(
    ("missing", "named"),
    [("account_index", "account_index"), ("api_key_index", "api_key_index"), ("secret", "put secret")],
)
def test_what_signing_lacks_is_said_with_where_to_put_it(missing: str, named: str) -> None:
    settings = LighterSettings.build({}, {name: value for name, value in ACCOUNT.items() if name != missing})
    with pytest.raises(ConfigurationError) as caught:
        settings.credentials()
    text = str(caught.value)
    assert named in text
    assert "accounts.toml" in text
    assert "LIGHTER_" in text
    assert "\n" not in text


@pytest.mark.parametrize("key", ["z" * 80, KEY[:-1], "ab" * 32, f"0x{KEY}00"])
def test_a_malformed_key_is_refused_without_being_shown(key: str) -> None:
    settings = LighterSettings.build({}, {**ACCOUNT, "secret": key})
    with pytest.raises(ConfigurationError, match="80 hexadecimal digits") as caught:
        settings.credentials()
    assert key not in str(caught.value)


def test_the_key_is_in_no_text_of_the_settings() -> None:
    settings = LighterSettings.build({}, ACCOUNT)
    for text in (str(settings), repr(settings), repr(settings.credentials()), settings.model_dump_json()):
        assert KEY not in text


def test_a_key_of_the_wrong_type_is_not_shown() -> None:
    assert KEY not in message_of({}, {**ACCOUNT, "secret": [KEY]})


@pytest.mark.parametrize("value", [0, 330, 86_400])
def test_a_dead_mans_switch_is_off_or_as_long_as_the_venue_wants_it(value: float) -> None:
    assert value == LighterSettings.build({"dead_mans_switch_s": value}).dead_mans_switch_s


@pytest.mark.parametrize("value", [300, 329.9, 15 * 86_400, -1])
def test_a_dead_mans_switch_that_the_venue_would_refuse_is_refused(value: float) -> None:
    assert "dead_mans_switch_s" in message_of({"dead_mans_switch_s": value})


@pytest.mark.parametrize("value", [0, 16])
def test_a_batch_has_up_to_fifteen_transactions(value: int) -> None:
    assert "batch_size" in message_of({"batch_size": value})


def test_further_keys_come_after_the_first_and_are_nowhere_to_be_read() -> None:
    other = "fedcba9876543210" * 5
    settings = LighterSettings.build({}, {**ACCOUNT, "api_keys": {"7": f"0x{other}", "6": other}})
    assert [4, 7, 6] == list(settings.signing_keys())
    assert f"0x{other}" == settings.signing_keys()[7].get_secret_value()
    assert other not in f"{settings} {settings!r} {settings.model_dump_json()}"


def test_further_keys_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTER_API_KEYS", f'{{"5": "{KEY}"}}')
    assert [4, 5] == list(LighterSettings.build({}, ACCOUNT).signing_keys())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"5": "deadbeef"}, "the private key of API key 5 is not 80 hexadecimal digits"),
        ({"255": KEY}, "api_keys.255"),
        ({"five": KEY}, "api_keys.five"),
        ([KEY], "api_keys"),
    ],
)
def test_a_further_key_that_cannot_be_one_is_refused_and_not_shown(keys: Any, expected: str) -> None:
    message = message_of({}, {**ACCOUNT, "api_keys": keys})
    assert expected in message
    assert KEY not in message
    assert "deadbeef" not in message


def test_the_first_key_is_no_further_key() -> None:
    settings = LighterSettings.build({}, {**ACCOUNT, "api_keys": {"4": KEY}})
    with pytest.raises(ConfigurationError, match="take it out of api_keys"):
        settings.signing_keys()
