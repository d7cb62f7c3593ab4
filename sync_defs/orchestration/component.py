"""The component of Dagster's `dg` for a job in YAML."""

from typing import Self

import dagster as dg
from pydantic import BaseModel

from sync_defs.declared import COMPONENT, FILE, SyncJobAttributes, declared_job
from sync_defs.job import TableSync
from sync_defs.orchestration.build import inbox_definitions, job_definitions, shared_definitions, target_kind
from sync_defs.orchestration.names import DEFAULT_NAMES
from sync_defs.orchestration.translator import SyncTranslator, SyncTranslatorData
from sync_defs.settings import Settings

TEMPLATE = f"""# A table that is kept in step with a source; `dg docs` and the JSON schema list every attribute.
type: {COMPONENT}
attributes:
  name: NAME
  # A Python function that returns or yields records, or a ready connector.
  source:
    rest:
      base_url: https://erp.example.com
      path: /api/articles
  # A SQLAlchemy Table or mapped class.
  target: my_project.tables.articles
  key: sku
  fields:
    stock: quantity
  schedule: 1h
"""


class SyncJobScaffolder(dg.Scaffolder):
    """Writes a `defs.yaml` to start from."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write it into the new folder."""
        request.target_path.mkdir(parents=True, exist_ok=True)
        name = request.target_path.name
        (request.target_path / FILE).write_text(TEMPLATE.replace("NAME", name), encoding="utf-8")


@dg.scaffold_with(SyncJobScaffolder)
class SyncJobComponent(dg.Component):
    """A table that is kept in step with a source: asset, schedule, checks, webhook inbox and command line."""

    def __init__(self, job: TableSync) -> None:
        """Take the job that the attributes declare."""
        self.job = job

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the model of the attributes, with the descriptions that the JSON schema shows."""
        return SyncJobAttributes

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """Return what `dg` lists it with."""
        return dg.ComponentTypeSpec(description=cls.__doc__, tags=["sync", "table"])

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:  # noqa: ARG003
        """Make the component of a document."""
        if not isinstance(attributes, SyncJobAttributes):
            raise TypeError(f"attributes are {type(attributes).__name__}")
        return cls(declared_job(attributes))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the job; those of the first one in the project also what all jobs share."""
        url = Settings().database_url.get_secret_value()
        spec, names = SyncTranslator().translate(SyncTranslatorData(job=self.job, target_kind=target_kind(url)))
        parts = [job_definitions(self.job, spec, names)]
        if self.job.webhook is not None:
            parts.append(inbox_definitions([self.job], DEFAULT_NAMES, database_url=url, sensors="each"))
        found = context.component_tree.get_all_components(of_type=SyncJobComponent)
        jobs = {component.job.name: component.job for component in found} | {self.job.name: self.job}
        if self.job.name == min(jobs):
            parts.append(shared_definitions(jobs, DEFAULT_NAMES, database_url=url))
        return dg.Definitions.merge(*parts)
