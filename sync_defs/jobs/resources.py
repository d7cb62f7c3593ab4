"""What the jobs' fetches need, as plain objects; a parameter of a fetch names one of these."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from sync_defs.connectors import ErpClient
from sync_defs.errors import ConfigurationError
from sync_defs.settings import Settings


@contextmanager
def open_erp(settings: Settings) -> Generator[ErpClient]:
    """Give a client of the ERP; without an address, a demo ERP runs on a free loopback port during the block.

    The demo ERP keeps its data in `settings.state_dir`, so that the next block goes on with it.
    """
    token = settings.erp_token.get_secret_value() if settings.erp_token else None
    if settings.erp_url is not None:
        yield ErpClient(settings.erp_url, token=token)
        return
    from sync_defs.testing.demo_erp import DemoErp

    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with DemoErp(path=settings.state_dir / "demo_erp.sqlite", api_token=token) as demo:
        yield ErpClient(demo.url, token=token)


@contextmanager
def open_resources(settings: Settings, names: Iterable[str]) -> Generator[dict[str, object]]:
    """Give the named resources for the block, and close them at its end.

    Raises:
        ConfigurationError: a name is none of the known resources.
    """
    with ExitStack() as stack:
        yield {name: stack.enter_context(_opener(name)(settings)) for name in sorted(names)}


_OPENERS: Mapping[str, Callable[[Settings], AbstractContextManager[object]]] = {"erp": open_erp}


def _opener(name: str) -> Callable[[Settings], AbstractContextManager[object]]:
    if name not in _OPENERS:
        raise ConfigurationError(
            f"there is no resource {name!r}; known resources: {', '.join(sorted(_OPENERS))}", code="missing_resource"
        )
    return _OPENERS[name]
