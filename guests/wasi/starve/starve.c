/* Takes every descriptor that the host's process has left, and then asks for what needs none, or one. */
#include "../check.h"

enum { DATA = FIRST_GRANT, DESCRIPTORS_MAX = 1024 };

static u32 fds[DESCRIPTORS_MAX];

static u32 open_all(u32 *code)
{
    u32 opened = 0;
    while (opened < DESCRIPTORS_MAX && (*code = open_at(DATA, "file", 0, READ, &fds[opened])) == 0)
        opened++;
    return opened;
}

static __wasi_subscription_t after(u64 nanoseconds)
{
    __wasi_subscription_t subscription = {.u.tag = __WASI_EVENTTYPE_CLOCK};
    subscription.u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
    subscription.u.u.clock.timeout = nanoseconds;
    return subscription;
}

int main(void)
{
    __wasi_subscription_t subscriptions[2] = {after(1000), after(2000)};
    __wasi_event_t events[2];
    __wasi_filestat_t stat;
    char bytes[64];
    u32 code, count;
    u32 opened = open_all(&code);
    expect_true("the host has few descriptors", opened > 8 && opened < DESCRIPTORS_MAX);
    expect("and says so", code, __WASI_ERRNO_IO);
    expect("a file that is open is read", read_fd(fds[0], bytes, sizeof bytes, &count), 0);
    expect("another is looked at", stat_at(DATA, 0, "file", &stat), 0);
    expect("a link is made", symlink_at("file", DATA, "link"), 0);
    expect("randomness", raw_random_get(P(bytes), sizeof bytes), 0);
    expect("sleep", raw_poll_oneoff(P(subscriptions), P(events), 1, P(&count)), 0);
    expect("wait for one of two", raw_poll_oneoff(P(subscriptions), P(events), 2, P(&count)), 0);
    for (u32 i = 0; i < opened; i++)
        need("close", raw_fd_close(fds[i]));
    expect("wait for one of two, later", raw_poll_oneoff(P(subscriptions), P(events), 2, P(&count)), 0);
    return finish();
}
