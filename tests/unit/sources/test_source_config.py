"""What a configuration refuses, and that it never shows its secrets."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from domain.source_protocols import GuestSource
from sources.config import ClusterConfig, MainSiteConfig
from sources.outgoing.tls import fingerprint_bytes
from sources.proxmox.cluster import ClusterSource
from tests.unit.sources.canned import KEY, main_site
from tests.unit.sources.fake_cluster import SECRET

URL = "https://pve1.test:8006"


def cluster(**changes: object) -> ClusterConfig:
    given: dict[str, object] = {
        "name": "main",
        "urls": (URL,),
        "token_id": "panel@pve!sync",
        "token_secret": SecretStr(SECRET),
        **changes,
    }
    return ClusterConfig(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"urls": ()}, "cluster main has no urls"),
        ({"urls": ("pve1.test",)}, "cluster main: the address must read"),
        ({"urls": ("http://pve1.test:8006",)}, "must be reached by https"),
        ({"urls": (URL, "https://root:secret@pve2.test")}, "must not carry credentials"),
        ({"token_id": "panel@pve"}, "token_id is not USER@REALM!TOKENID"),
        ({"token_id": "panel@pve!sync=" + SECRET}, "token_id is not USER@REALM!TOKENID"),
        ({"token_secret": SecretStr("")}, "token_secret must be printable"),
        ({"token_secret": SecretStr(SECRET + "\n")}, "token_secret must be printable"),
        ({"fingerprint": "AB:CD"}, "64 hex digits"),
    ],
)
def test_a_cluster_that_cannot_be_meant_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        cluster(**changes)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8006", "http://[::1]:8006", "http://localhost:8006"])
def test_plain_http_stays_on_this_host_unless_it_is_allowed(url: str) -> None:
    assert cluster(urls=(url,)).urls == (url,)
    assert cluster(urls=("http://pve1.test",), allow_plaintext=True).allow_plaintext


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "site.test"},
        {"base_url": "ftp://site.test"},
        {"base_url": "https://site.test:99999"},
        {"base_url": "https://site.test/?x=1"},
        {"api_key": SecretStr("ключ")},
        {"api_key": SecretStr(f"{KEY} ")},
    ],
)
def test_a_main_site_that_cannot_be_meant_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="MAIN_SITE_") as caught:
        main_site(**changes)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://s.test", "https://s.test/", "https://s.test/api/panel", "https://s.test/api/panel/"]
)
def test_the_interface_may_be_named_by_its_root_or_by_its_site(url: str) -> None:
    assert MainSiteConfig(url, SecretStr(KEY)).api_url == "https://s.test/api/panel"


def test_secrets_are_not_shown() -> None:
    assert KEY not in repr(main_site())
    assert SECRET not in repr(cluster())


def test_a_fingerprint_is_read_with_and_without_colons() -> None:
    assert fingerprint_bytes(":".join(["aB"] * 32)) == fingerprint_bytes("Ab" * 32) == b"\xab" * 32


def test_a_ca_file_that_cannot_be_read_stops_the_start(tmp_path: object) -> None:
    with pytest.raises(ValueError, match="cannot be read as PEM"):
        ClusterSource(cluster(ca_file=f"{tmp_path}/none.pem"))


def test_a_cluster_source_is_a_guest_source() -> None:
    source: GuestSource = ClusterSource(cluster())
    assert source.cluster == "main"


@pytest.mark.parametrize(
    "url",
    ["https://pve:8006", "https://pve:8006/", "https://pve:8006/api2/json", "https://pve:8006/api2/json/",
     "https://pve:8006/api2", "https://pve:8006/api2/extjs"],
)  # fmt: skip
def test_a_cluster_s_address_may_name_the_interface(url: str) -> None:
    config = ClusterConfig("main", (url, "https://[::1]:8006/proxied/api2/json"), "a@b!c", SecretStr("secret"))
    assert config.api_urls == ("https://pve:8006/api2/json", "https://[::1]:8006/proxied/api2/json")
