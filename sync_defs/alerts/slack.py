"""Notices to a chat: Slack's incoming webhooks, and those that take the same (Mattermost, Rocket.Chat, Discord)."""

from dataclasses import dataclass, field
from typing import Final

import httpx

from sync_defs.alerts.notice import Notice, Notifier
from sync_defs.errors import AlertError, ConfigurationError

TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SlackNotifier(Notifier):
    """Posts `{"text": ...}` to an incoming webhook.

    Raises:
        ConfigurationError: the address is none of http or https; it is not repeated, since it is a secret.
    """

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        """Check the address."""
        if not self.url.startswith(("https://", "http://")):
            raise ConfigurationError("the address of the chat's webhook does not begin with https:// or http://")

    def notify(self, notice: Notice) -> None:
        """Post the notice.

        Raises:
            AlertError: it was not accepted.
        """
        # In their markup these three begin links and mentions.
        text = notice.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        try:
            answer = httpx.post(self.url, json={"text": text}, timeout=TIMEOUT_S)
        except httpx.HTTPError as error:  # its text may hold the address
            raise AlertError(f"the chat's webhook gave no answer ({type(error).__name__})") from None
        if not answer.is_success:
            raise AlertError(f"the chat's webhook answered {answer.status_code}")
