"""Settings of a deployment, read from environment variables and a `.env` file when asked, never at import."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every variable begins with `SYNC_`; the README's table lists them."""

    model_config = SettingsConfigDict(env_prefix="SYNC_", env_file=".env", extra="ignore", env_ignore_empty=True)

    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///sync_defs.db"), description="Database of the targets and the bookkeeping."
    )
    jobs_module: str = Field(default="sync_defs.jobs", description="Package that holds the deployment's sync jobs.")
    state_dir: Path = Field(default=Path(".sync_defs"), description="Folder for the demo ERP's state.")
    erp_url: str | None = Field(
        default=None, description="Address of the ERP; without it, a demo ERP is started on a free loopback port."
    )
    erp_token: SecretStr | None = Field(default=None, description="Bearer token for the ERP.")
    history_days: int = Field(
        default=90, ge=0, le=36_500, description="Days that changes and ended runs are kept; 0 is for ever."
    )
    executor: Literal["in_process", "celery"] = Field(
        default="in_process", description="What runs the ops of syncs in Dagster."
    )
    celery_broker_url: SecretStr | None = Field(default=None, description="Broker of Celery: Redis or RabbitMQ.")
    alert_slack_url: SecretStr | None = Field(
        default=None, description="Incoming webhook of Slack, Mattermost or the like, for alerts."
    )
    alert_smtp_url: SecretStr | None = Field(
        default=None, description="Mail server for alerts: smtp://user:password@host:587, or smtps://..."
    )
    alert_from: str = Field(default="", description="Sender of alerts by mail.")
    alert_to: str = Field(default="", description="Recipients of alerts by mail, separated by commas.")
    dagster_url: str | None = Field(default=None, description="Address of Dagster's pages, for links in alerts.")
    receiver_host: str = Field(default="127.0.0.1", description="Address that the webhook receiver listens on.")
    receiver_port: int = Field(default=8321, description="Port of the webhook receiver.")
    webserver_port: int = Field(default=3000, description="Port of Dagster's webserver under `sync-defs up`.")
