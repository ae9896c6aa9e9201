"""The attacks, in the order of the table in ``docs/reliability.md``."""

from __future__ import annotations

ATTACKS = {
    "surrogate": "a response of 32 kB that decompresses to 16 MiB, with 5 million values and a lone surrogate",
    "streams": "node-media-server 2 with 1.5 million streams",
    "records": "node-media-server 4 with 624,000 tiny records",
    "pages": "endless Livepeer pages of 15 MB",
    "dns": "12 upstreams whose DNS server does not respond",
    "tls_connections": "1,500 idle connections to the TLS port",
    "silent_connections": "1,120 silent connections",
    "passwords": "100 connections that guess passwords",
    "config_page": "38 concurrent requests for `/config`, 5,000 configured streams",
    "probe": "`/probe` in a loop",
    "sighup": "1,883 SIGHUPs in 10 s",
    "cross_site": "a page of another site that posts to `/-/reload`",
    "echo": "a platform that echoes its token in every text",
    "files": "a FIFO in place of each file",
    "hung_mount": "a hung network mount with the web configuration and a token",
    "unknown_keys": "a reload with 100,000 unknown keys in the configuration",
}
