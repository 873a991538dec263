"""`ssmrec serve`: a run behind HTTP."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ssmrec.cli.titles import titles_of, titles_or_none
from ssmrec.errors import ConfigError, SsmrecError
from ssmrec.serving.hosts import hosts_of
from ssmrec.serving.listening import allow_more_files, listening
from ssmrec.serving.live import Live
from ssmrec.serving.service import Service, load

logger = logging.getLogger("ssmrec")


def serve(
    run: Annotated[Path, typer.Argument(help="Run folder, or a link to one.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name to answer to, as a proxy passes it on; repeat, * for any. Default: of a "
            "--host that only this machine reaches, localhost; else any.",
            metavar="NAME",
        ),
    ] = None,
    watch: Annotated[
        float, typer.Option(help="Seconds between looks for a new run; 0 for never.", min=0)
    ] = 2.0,
    titles: Annotated[
        Path | None,
        typer.Option(help="File with a column of item ids and one of titles, for the page."),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="Search by an index of the run: usearch, faiss or hnsw for the one in its folder, or "
            "the file or folder that ssmrec index wrote.",
            metavar="KIND|PATH",
        ),
    ] = None,
    max_k: Annotated[int, typer.Option(help="Longest list.", min=1)] = 1000,
    max_batch: Annotated[int, typer.Option(help="Users or items a request.", min=1)] = 1000,
    max_body: Annotated[int, typer.Option(help="Bytes of a request body.", min=1)] = 1 << 20,
) -> None:
    """Serve recommendations over HTTP, with a small page at /, until stopped.

    A new run is taken up without losing a request: train into the same folder, or point a link of that
    name to another one. Exact scores, by the path that evaluation uses, unless
    --index is given.

    Example:

      ssmrec serve runs/shop --port 8000
    """
    try:
        from ssmrec.serving.app import Limits, make_app
        from ssmrec.serving.connections import make_server
    except ImportError as error:
        raise ConfigError(f"serving needs {error.name}: pip install 'ssmrec[serve]'") from None
    read = partial(load, titles=Titles(titles), index=index)
    service = Service(read(run), read)
    limits = Limits(k=max_k, batch=max_batch, body=max_body)
    allow_more_files()
    with listening(host, port) as place:
        hosts = hosts_of(place.getsockname()[0], host, allow_host or [])
        app = make_app(service, limits, watch, hosts)
        logger.info("run %s at %s", service.loaded.version, _address(place))
        with suppress(KeyboardInterrupt):  # Ctrl-C: all that was asked has been answered
            make_server(app).run(sockets=[place])


def _address(place: socket.socket) -> str:
    host, port = place.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Titles:
    """Titles for each run that is served: of a file, or of the run's own data set.

    A fault in those of the data set is told, and the run is served without. One in the file is an error
    for the first run; a later run is served with the titles that it had.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.last: dict[str, str] | None = None

    def __call__(self, live: Live) -> dict[str, str]:
        if self.file is None:
            return titles_or_none(live.trained)
        try:
            self.last = titles_of(live.trained.config.data, self.file)
        except (SsmrecError, OSError) as error:
            if self.last is None:
                raise
            logger.warning("titles of the new run: %s", error)
        return self.last
