// A plain fetch-event cell: it knows nothing of this host. Built by ../build.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
    const url = new URL(request.url);
    if (url.pathname.endsWith("/loop")) {
        for (;;) {}
    }
    if (url.pathname.endsWith("/eat")) {
        const eaten = [];
        for (;;) eaten.push(new Uint8Array(1 << 20));
    }
    const body = {
        language: "JavaScript",
        method: request.method,
        path: url.pathname + url.search,
        tenant: request.headers.get("x-tenant-id"),
        body: await request.text(),
    };
    return new Response(JSON.stringify(body), { headers: { "content-type": "application/json" } });
}
