"""Alerts: one notice for each change of a job's state, and who delivers it.

`notice` (what is said, and the class to subclass), `slack` and `mail` (ready ones). Imports no Dagster.
"""

from sync_defs.alerts.mail import MailNotifier
from sync_defs.alerts.notice import Notice, Notifier, Problem, State
from sync_defs.alerts.slack import SlackNotifier

__all__ = ["MailNotifier", "Notice", "Notifier", "Problem", "SlackNotifier", "State"]
