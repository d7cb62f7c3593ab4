"""Dagster's GraphQL: is it up, and please launch a first sync of each job."""

from collections.abc import Iterable
from typing import Any, Final, cast

import httpx

from sync_defs.cli.output import tell
from sync_defs.errors import SyncError

_TIMEOUT_S: Final = 30.0
_JOBS: Final = """
query {
  workspaceOrError {
    __typename
    ... on PythonError { message }
    ... on Workspace {
      locationEntries {
        name
        loadStatus
        locationOrLoadError {
          __typename
          ... on PythonError { message }
          ... on RepositoryLocation { repositories { name jobs { name } } }
        }
      }
    }
  }
}
"""
_LAUNCH: Final = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on InvalidSubsetError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""


class Dagster:
    """A webserver on this machine."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """Take its address, and in tests what replaces the network; no request is sent yet."""
        self._url = url
        self._transport = transport

    def jobs(self) -> dict[str, tuple[str, str]] | None:
        """Return each Dagster job's location and repository by name; None while it is not ready to tell.

        Raises:
            SyncError: the definitions cannot be loaded; says why.
        """
        try:
            workspace = self._ask(_JOBS, {})["workspaceOrError"]
        except httpx.HTTPError:
            return None
        entries: list[Any] = workspace.get("locationEntries", [])
        if any(entry["loadStatus"] == "LOADING" for entry in entries):
            return None
        found: dict[str, tuple[str, str]] = {}
        for entry in entries:
            loaded = entry["locationOrLoadError"]
            if loaded is None or loaded["__typename"] == "PythonError":
                reason = " ".join(str(loaded["message"]).split()) if loaded else "no reason was given"
                message = f"Dagster cannot load the location {entry['name']}: {reason}"
                raise SyncError(message, code="definitions_not_loaded")
            for repository in loaded["repositories"]:
                names = (job["name"] for job in repository["jobs"])
                found.update((name, (entry["name"], repository["name"])) for name in names)
        return found

    def launch(self, name: str, location: str, repository: str) -> str:
        """Launch a job and return the run's id.

        Raises:
            SyncError: it was not launched.
        """
        selector = {"repositoryLocationName": location, "repositoryName": repository, "jobName": name}
        params = {"selector": selector, "runConfigData": {}}
        try:
            answer = self._ask(_LAUNCH, {"params": params})["launchRun"]
        except httpx.HTTPError as error:
            raise _not_launched(name, type(error).__name__) from None
        if answer["__typename"] != "LaunchRunSuccess":
            raise _not_launched(name, answer.get("message") or answer.get("errors") or answer["__typename"])
        return str(answer["run"]["runId"])

    def _ask(self, query: str, variables: dict[str, object]) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S, transport=self._transport) as client:
            answer = client.post(f"{self._url}/graphql", json={"query": query, "variables": variables})
        answer.raise_for_status()
        body = cast("dict[str, Any]", answer.json())
        if body.get("errors"):
            reason = body["errors"][0]["message"]
            raise SyncError(f"Dagster refused a query: {reason}", code="dagster_refused")
        return cast("dict[str, Any]", body["data"])


def job_of(sync_job: str) -> str:
    """Return the name of the Dagster job that syncs a job."""
    return f"sync_{sync_job}"


def _not_launched(name: str, reason: object) -> SyncError:
    return SyncError(f"Dagster did not launch {name}: {reason}", code="not_launched")


def launch_first(dagster: Dagster, sync_jobs: Iterable[str], known: dict[str, tuple[str, str]]) -> list[str]:
    """Launch those sync jobs that Dagster has a job for, and return their names; say which it refuses."""
    launched: list[str] = []
    for name in sync_jobs:
        if job_of(name) in known:
            try:
                dagster.launch(job_of(name), *known[job_of(name)])
            except SyncError as error:
                tell(f"sync-defs: [{error.code}] {error}")
            else:
                launched.append(name)
    return launched
