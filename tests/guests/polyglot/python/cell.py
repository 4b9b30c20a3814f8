"""A plain cell of the standard HTTP world: it knows nothing of this host. Built by ../build."""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = request.path_with_query() or ""
        if path.endswith("/trap"):
            raise RuntimeError("the cell raises as asked")
        headers = dict(request.headers().entries())
        answer = {
            "language": "Python",
            "method": type(request.method()).__name__.removeprefix("Method_").upper(),
            "path": path,
            "tenant": headers.get("x-tenant-id", b"").decode(),
            "body": read(request.consume()).decode(),
        }
        write(response_out, json.dumps(answer).encode())


def read(body: IncomingBody) -> bytes:
    read = b""
    with body.stream() as stream:
        while True:
            try:
                read += stream.blocking_read(64 * 1024)
            except Err:
                return read


def write(response_out: ResponseOutparam, content: bytes) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        for start in range(0, len(content), 4096):
            stream.blocking_write_and_flush(content[start : start + 4096])
    OutgoingBody.finish(body, None)
