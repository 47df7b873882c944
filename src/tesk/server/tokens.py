"""Page tokens: where the next page begins, in a form that only this store's servers can make."""

from __future__ import annotations

import base64
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
        mac = hmac.digest(self._secret, b"page" + payload, hashlib.sha256)[:_MAC_BYTES]
        return base64.urlsafe_b64encode(payload + mac).decode("ascii").rstrip("=")

    def read(self, token: str) -> int:
        """The position in `token`; BadToken unless `make` made it with the same secret."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise BadToken(token) from None
        position = int.from_bytes(raw[:8], "big")
        if not hmac.compare_digest(self.make(position).encode(), token.encode("utf-8", "replace")):
            raise BadToken(token)
        return position
