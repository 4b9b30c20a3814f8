// A counter in the typed world, from 0 to 1000. Built by ../build.

import { get, put } from "aibos:cell/state@1.0.0";

const COUNT_MAX = 1000;

export const handler = {
    handle(request) {
        const before = Number(decode(get("count")) || 0);
        if (request.method === "GET") return answer(200, { language: "JavaScript", count: before });
        const by = asked(request.body);
        if (!Number.isSafeInteger(by) || by < 1) return answer(400, { error: 'send {"by": N}, N an integer from 1' });
        const count = before + by;
        put("count", encode(String(count)));
        if (request.path.endsWith("/fail")) throw new Error("the cell throws as asked");
        // A status of 400 or above drops what was staged.
        if (count > COUNT_MAX) return answer(409, { error: `the counter ends at ${COUNT_MAX}` });
        console.log(`counted to ${count}`);
        return answer(200, { language: "JavaScript", count });
    },
};

function asked(body) {
    try {
        return JSON.parse(decode(body)).by;
    } catch {
        return undefined;
    }
}

function answer(status, body) {
    const headers = [["content-type", "application/json"]];
    return { status, headers, body: encode(JSON.stringify(body)), effect: "by-status" };
}

const encode = (text) => new TextEncoder().encode(text);
const decode = (bytes) => new TextDecoder().decode(bytes);
