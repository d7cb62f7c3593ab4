"""The translator: what a job's definitions are called and how they present themselves, for a subclass to change."""

from dataclasses import dataclass, replace

import dagster as dg

from sync_defs.job import Job
from sync_defs.orchestration.asset import asset_spec
from sync_defs.orchestration.names import SyncNames


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTranslatorData:
    """What a translator is given."""

    job: Job
    target_kind: str
    """The database of the target, by the name under which Dagster has an icon, such as `postgres`."""


class SyncTranslator:
    """Translates sync jobs to Dagster; subclass it and change what `super()` returns.

    Example:
        ```python
        class ShopTranslator(SyncTranslator):
            def get_asset_spec(self, data: SyncTranslatorData) -> dg.AssetSpec:
                spec = super().get_asset_spec(data)
                return spec.replace_attributes(key=spec.key.with_prefix("shop"), group_name="shop")
        ```
    """

    def get_asset_spec(self, data: SyncTranslatorData) -> dg.AssetSpec:
        """Return the asset: key, description, group, owners, tags, kinds, metadata, code version and freshness."""
        return asset_spec(data.job, kind=data.target_kind)

    def get_names(self, data: SyncTranslatorData) -> SyncNames:
        """Return the names of Dagster job, schedule, inbox job, sensor and pool; the asset's comes from its spec."""
        return SyncNames.of(data.job.name)

    def translate(self, data: SyncTranslatorData) -> tuple[dg.AssetSpec, SyncNames]:
        """Return both; not for overriding."""
        spec = self.get_asset_spec(data)
        return spec, replace(self.get_names(data), sync_job=data.job.name, asset=spec.key)
