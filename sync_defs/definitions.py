"""The Dagster entry point that `workspace.yaml` names; the only module that reads settings when imported."""

import dagster as dg

from sync_defs.alerts import MailNotifier, Notifier, SlackNotifier
from sync_defs.jobs import load_jobs
from sync_defs.jobs.erp_resource import ErpResource
from sync_defs.orchestration import Alerting, build_sync_definitions, executor_for
from sync_defs.settings import Settings

_settings = Settings()
_notifiers: list[Notifier] = []
if _settings.alert_slack_url is not None:
    _notifiers.append(SlackNotifier(_settings.alert_slack_url.get_secret_value()))
if _settings.alert_smtp_url is not None:
    _recipients = [address.strip() for address in _settings.alert_to.split(",") if address.strip()]
    _url = _settings.alert_smtp_url.get_secret_value()
    _notifiers.append(MailNotifier(url=_url, sender=_settings.alert_from, recipients=_recipients))

_broker = None if _settings.celery_broker_url is None else _settings.celery_broker_url.get_secret_value()

defs: dg.Definitions = build_sync_definitions(
    load_jobs(_settings.jobs_module),
    database_url=_settings.database_url.get_secret_value(),
    resources={"erp": ErpResource()},
    history_days=_settings.history_days,
    executor=executor_for(_settings.executor, celery_broker_url=_broker),
    alerting=Alerting(notifiers=_notifiers, dagster_url=_settings.dagster_url),
)
