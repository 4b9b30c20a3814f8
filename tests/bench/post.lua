-- wrk: posts a body as many customers; the file of $TOKENS has one access token a line. $BODY is the body; in payments
-- (no $BODY) each request has an Idempotency-Key of its own and one of a hundred destinations. $METHOD=GET asks instead.
local tokens, made, prefix, fixed = {}, 0, "", os.getenv("BODY")
if fixed == "" then fixed = nil end

function init(arguments)
    for line in io.lines(os.getenv("TOKENS")) do tokens[#tokens + 1] = "Bearer " .. line end
    local random = io.open("/dev/urandom", "rb"):read(8)
    prefix = random:gsub(".", function(byte) return string.format("%02x", byte:byte()) end) .. "-"
    wrk.method = os.getenv("METHOD") or "POST"
    wrk.headers["content-type"] = "application/json"
end

function request()
    made = made + 1
    wrk.headers["authorization"] = tokens[made % #tokens + 1]
    if fixed or wrk.method == "GET" then return wrk.format(nil, nil, nil, fixed) end
    wrk.headers["idempotency-key"] = prefix .. made
    return wrk.format(nil, nil, nil, string.format(
        '{"amount":1999,"currency":"EUR","source":"tok_ok","destination":"merchant-%d"}', made % 100))
end

-- RESULT good requests a second, p50 p95 p99 in milliseconds, refused, broken
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("RESULT %.1f %.2f %.2f %.2f %d %d\n",
        (summary.requests - errors.status) / summary.duration * 1e6, latency:percentile(50) / 1000,
        latency:percentile(95) / 1000, latency:percentile(99) / 1000, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
