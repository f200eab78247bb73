-- Prints: requests, microseconds, responses that were no 2xx or 3xx, errors of sockets, p50 and p99 in microseconds.
function done(summary, latency, requests)
    local errors = summary.errors
    print(string.format("figures %d %d %d %d %d %d", summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
