/* Waits for ever in the way that the first argument names; the host stops it. */
#include "../check.h"

#define YEAR_NS (UINT64_C(365) * 24 * 3600 * 1000000000)

static __wasi_subscription_t clock_event(u32 clock, u64 timeout, u32 flags)
{
    __wasi_subscription_t subscription = {.u.tag = __WASI_EVENTTYPE_CLOCK};
    subscription.u.u.clock.id = clock;
    subscription.u.u.clock.timeout = timeout;
    subscription.u.u.clock.flags = (__wasi_subclockflags_t)flags;
    return subscription;
}

static __wasi_subscription_t input_event(void)
{
    __wasi_subscription_t subscription = {.u.tag = __WASI_EVENTTYPE_FD_READ};
    subscription.u.u.fd_read.file_descriptor = 0;
    return subscription;
}

static u32 poll(__wasi_subscription_t first, __wasi_subscription_t second, u32 count)
{
    __wasi_subscription_t subscriptions[2] = {first, second};
    __wasi_event_t events[2];
    u32 ready;
    return raw_poll_oneoff(P(subscriptions), P(events), count, P(&ready));
}

int main(int argc, char **argv)
{
    const u32 ABSOLUTE = __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME;
    const __wasi_subscription_t none = {0}, forever = clock_event(__WASI_CLOCKID_MONOTONIC, UINT64_MAX, 0);
    const char *how = argc == 2 ? argv[1] : "";
    u64 now = 0;
    need("clock", raw_clock_time_get(__WASI_CLOCKID_REALTIME, 0, P(&now)));
    u32 code = 0;
    say("waiting\n");
    flush_report();
    if (strcmp(how, "sleep") == 0)
        code = poll(clock_event(__WASI_CLOCKID_MONOTONIC, YEAR_NS, 0), none, 1);
    else if (strcmp(how, "sleep-forever") == 0)
        code = poll(forever, none, 1);
    else if (strcmp(how, "until-monotonic") == 0)
        code = poll(clock_event(__WASI_CLOCKID_MONOTONIC, UINT64_MAX, ABSOLUTE), none, 1);
    else if (strcmp(how, "until-realtime") == 0)
        code = poll(clock_event(__WASI_CLOCKID_REALTIME, now + YEAR_NS, ABSOLUTE), none, 1);
    else if (strcmp(how, "clocks") == 0)
        code = poll(clock_event(__WASI_CLOCKID_REALTIME, YEAR_NS, 0), forever, 2);
    else if (strcmp(how, "input") == 0)
        code = poll(input_event(), none, 1);
    else if (strcmp(how, "input-and-clock") == 0)
        code = poll(input_event(), forever, 2);
    else if (strcmp(how, "read") == 0) {
        char byte;
        u32 got;
        code = read_fd(0, &byte, 1, &got);
    } else if (strcmp(how, "yield") == 0) {
        while (code == 0)
            code = raw_sched_yield();
    } else if (strcmp(how, "naps") == 0) {
        /* Each wait is over at once; only between them can the guest be stopped. */
        while (code == 0)
            code = poll(clock_event(__WASI_CLOCKID_MONOTONIC, 0, 0), none, 1);
    }
    /* Not to be reached. */
    expect(how, code, __WASI_ERRNO_CANCELED);
    return finish();
}
