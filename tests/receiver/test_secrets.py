"""Where secrets come from."""

from sync_defs.policies import Webhook
from sync_defs.receiver import secret_variables, webhook_secrets
from tests.receiver.conftest import make_job


def test_the_jobs_own_variable_comes_before_the_shared_one():
    job = make_job("erp_items")
    environ = {"SYNC_WEBHOOK_SECRET_ERP_ITEMS": " new\told ", "SYNC_WEBHOOK_SECRET": "shared"}
    assert webhook_secrets(job, environ) == ["new", "old"]
    assert webhook_secrets(make_job("other"), environ) == ["shared"]
    assert webhook_secrets(job, {"SYNC_WEBHOOK_SECRET_ERP_ITEMS": " "}) == []


def test_a_named_variable_is_the_only_one():
    job = make_job(webhook=Webhook(secret_env="ERP_KEY"))
    assert secret_variables(job) == ["ERP_KEY"]
    assert webhook_secrets(job, {"SYNC_WEBHOOK_SECRET": "shared"}) == []
    assert webhook_secrets(job, {"ERP_KEY": "a"}) == ["a"]
