"""Running the receiver in a process of its own."""

import uvicorn
from starlette.applications import Starlette


def serve(app: Starlette, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve until the process is told to stop; requests under way are answered first.

    There is no access log: paths and addresses of senders are the proxy's business.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        ws="none",
    )
    uvicorn.Server(config).run()
