"""Page tokens: where the next page begins, in a form that only this store's servers can make."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

__all__ = ["BadToken", "PageTokens"]

_MAC_BYTES = 12


class BadToken(ValueError):
    """The text is no page token of this server."""


class PageTokens:
    """Makes and checks page tokens with the store's secret, so that they outlive a restart of the server."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, position: int) -> str:
        """The token for the page after `position`."""
        payload = position.to_bytes(8, "big")
        return base64.urlsafe_b64encode(payload + self._mac(payload)).decode("ascii").rstrip("=")

    def read(self, token: str) -> int:
        """The position in `token`; BadToken unless `make` made it with the same secret."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise BadToken(token) from None
        payload, mac = raw[:8], raw[8:]
        if len(payload) != 8 or not hmac.compare_digest(mac, self._mac(payload)):
            raise BadToken(token)
        return int.from_bytes(payload, "big")

    def _mac(self, payload: bytes) -> bytes:
        return hmac.digest(self._secret, b"page" + payload, hashlib.sha256)[:_MAC_BYTES]
