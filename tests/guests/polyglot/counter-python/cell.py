"""A counter in the typed world, from 0 to 1000. Built by ../build."""

import json

from wit_world import exports
from wit_world.imports import state
from wit_world.imports.types import Effect, Request, Response

COUNT_MAX = 1000


class Handler(exports.Handler):
    def handle(self, request: Request) -> Response:
        before = int(state.get("count") or 0)
        if request.method == "GET":
            return answer(200, {"language": "Python", "count": before})
        by = asked(request.body)
        if type(by) is not int or by < 1:
            return answer(400, {"error": 'send {"by": N}, N an integer from 1'})
        count = before + by
        state.put("count", str(count).encode())
        if request.path.endswith("/fail"):
            raise RuntimeError("the cell raises as asked")
        if count > COUNT_MAX:
            # A status of 400 or above drops what was staged.
            return answer(409, {"error": f"the counter ends at {COUNT_MAX}"})
        print(f"counted to {count}")
        return answer(200, {"language": "Python", "count": count})


def asked(body: bytes) -> object:
    try:
        return json.loads(body)["by"]
    except (ValueError, KeyError, TypeError):
        return None


def answer(status: int, body: dict[str, object]) -> Response:
    headers = [("content-type", "application/json")]
    return Response(status, headers, json.dumps(body).encode(), Effect.BY_STATUS)
