"""Notices by e-mail."""

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final
from urllib.parse import unquote, urlsplit

from sync_defs.alerts.notice import Notice, Notifier
from sync_defs.errors import AlertError, ConfigurationError

TIMEOUT_S: Final = 10.0
_PORTS: Final = {"smtp": 587, "smtps": 465}
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MailNotifier(Notifier):
    """Sends a mail for each notice, over TLS; in the clear only to a server on this machine.

    Raises:
        ConfigurationError: the address of the server is none, or nobody is to get the mail.
    """

    url: str = field(repr=False)
    """`smtp://user:password@host:587`, which turns to TLS (STARTTLS), or `smtps://...`; user and password may lack."""
    sender: str
    recipients: Sequence[str]

    def __post_init__(self) -> None:
        """Check address and people."""
        parts = urlsplit(self.url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigurationError(
                "the address of the mail server is none; it looks like smtp://user:password@host:587"
            )
        if not self.sender or not self.recipients:
            raise ConfigurationError("mails of alerts need a sender and at least one recipient")

    def notify(self, notice: Notice) -> None:
        """Send the notice.

        Raises:
            AlertError: the server did not take it for all recipients.
        """
        message = EmailMessage()
        message["Subject"] = f"[sync_defs] {notice.title}"
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid()
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(notice.text)
        try:
            with self._connect() as server:
                refused = server.send_message(message)
        except (smtplib.SMTPException, OSError) as error:  # its text may hold the password
            raise AlertError(f"the mail server did not take the notice ({type(error).__name__})") from None
        if refused:
            raise AlertError(f"the mail server refused {len(refused)} of {len(self.recipients)} recipients")

    def _connect(self) -> smtplib.SMTP:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        if parts.scheme == "smtps":
            server = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        else:
            server = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
            if host not in _LOCAL:
                server.starttls(context=ssl.create_default_context())
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        return server
