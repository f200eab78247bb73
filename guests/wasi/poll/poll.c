/* poll_oneoff: clocks, several subscriptions, descriptors ready and bad. */
#include "../check.h"

enum { DATA = FIRST_GRANT, EVENTS_MAX = 8 };

#define SECOND_NS UINT64_C(1000000000)
#define HOUR_NS (3600 * SECOND_NS)
#define ABSOLUTE __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME

static __wasi_event_t events[EVENTS_MAX];
static u32 count;

static __wasi_subscription_t clock_event(u64 userdata, u32 clock, u64 timeout, u32 flags)
{
    __wasi_subscription_t subscription = {.userdata = userdata, .u.tag = __WASI_EVENTTYPE_CLOCK};
    subscription.u.u.clock.id = clock;
    subscription.u.u.clock.timeout = timeout;
    subscription.u.u.clock.flags = (__wasi_subclockflags_t)flags;
    return subscription;
}

static __wasi_subscription_t fd_event(u64 userdata, uint8_t type, u32 fd)
{
    __wasi_subscription_t subscription = {.userdata = userdata, .u.tag = type};
    /* Reading and writing have the same shape. */
    subscription.u.u.fd_read.file_descriptor = (__wasi_fd_t)fd;
    return subscription;
}

static u32 poll(__wasi_subscription_t *subscriptions, u32 subscription_count)
{
    memset(events, 0xff, sizeof events);
    count = UINT32_MAX;
    return raw_poll_oneoff(P(subscriptions), P(events), subscription_count, P(&count));
}

static u64 now(u32 clock)
{
    u64 time = 0;
    need("clock", raw_clock_time_get(clock, 0, P(&time)));
    return time;
}

static void check_clocks(void)
{
    static const struct {
        const char *name;
        u32 clock;
    } clocks[] = {{"monotonic", __WASI_CLOCKID_MONOTONIC}, {"real time", __WASI_CLOCKID_REALTIME}};
    for (u32 i = 0; i < 2; i++) {
        u32 clock = clocks[i].clock;
        say("# ");
        say(clocks[i].name);
        say("\n");
        __wasi_subscription_t one = clock_event(42, clock, 2000000, 0);
        u64 before = now(__WASI_CLOCKID_MONOTONIC);
        expect("wait a while", poll(&one, 1), 0);
        expect_true("no less than that", now(__WASI_CLOCKID_MONOTONIC) - before >= 2000000);
        expect_true("one event, a clock's, without error, with its userdata",
                    count == 1 && events[0].userdata == 42 && events[0].type == __WASI_EVENTTYPE_CLOCK &&
                        events[0].error == 0);
        one = clock_event(43, clock, 0, 0);
        expect("wait no time", poll(&one, 1), 0);
        expect_true("one event", count == 1 && events[0].userdata == 43);
        one = clock_event(44, clock, now(clock) + 2000000, ABSOLUTE);
        before = now(clock);
        expect("wait until a time", poll(&one, 1), 0);
        expect_true("one event", count == 1 && events[0].userdata == 44);
        one = clock_event(45, clock, SECOND_NS, ABSOLUTE);
        expect("wait until a time long past", poll(&one, 1), 0);
        expect_true("one event", count == 1 && events[0].userdata == 45);
    }
    __wasi_subscription_t one = clock_event(1, __WASI_CLOCKID_PROCESS_CPUTIME_ID, 0, 0);
    expect("a processor clock", poll(&one, 1), __WASI_ERRNO_INVAL);
    one = clock_event(1, __WASI_CLOCKID_THREAD_CPUTIME_ID, 0, ABSOLUTE);
    expect("a processor clock's time", poll(&one, 1), __WASI_ERRNO_INVAL);
    one = clock_event(1, 9, 0, 0);
    expect("an unknown clock", poll(&one, 1), __WASI_ERRNO_INVAL);
    one = clock_event(1, __WASI_CLOCKID_MONOTONIC, 0, 0x8000);
    expect("unknown flags", poll(&one, 1), __WASI_ERRNO_INVAL);
    one = fd_event(1, 7, 1);
    expect("an unknown kind of event", poll(&one, 1), __WASI_ERRNO_INVAL);
    expect("nothing at all", poll(&one, 0), __WASI_ERRNO_INVAL);
}

static void check_several(void)
{
    __wasi_subscription_t several[4] = {
        clock_event(1, __WASI_CLOCKID_MONOTONIC, HOUR_NS, 0),
        clock_event(2, __WASI_CLOCKID_REALTIME, 1000000, 0),
        clock_event(3, __WASI_CLOCKID_MONOTONIC, UINT64_MAX, 0),
        clock_event(4, __WASI_CLOCKID_MONOTONIC, UINT64_MAX, ABSOLUTE),
    };
    expect("the first of several clocks", poll(several, 4), 0);
    expect_true("only that one", count == 1 && events[0].userdata == 2);
    __wasi_subscription_t due[2] = {
        clock_event(5, __WASI_CLOCKID_MONOTONIC, 1, ABSOLUTE),
        clock_event(5, __WASI_CLOCKID_MONOTONIC, 1, ABSOLUTE),
    };
    expect("the same twice", poll(due, 2), 0);
    expect_true("events with the same userdata", count >= 1 && count <= 2 && events[0].userdata == 5);
    __wasi_subscription_t mixed[2] = {
        clock_event(6, __WASI_CLOCKID_MONOTONIC, HOUR_NS, 0),
        fd_event(7, __WASI_EVENTTYPE_FD_WRITE, 1),
    };
    expect("a clock and standard output", poll(mixed, 2), 0);
    expect_true("standard output is ready",
                count == 1 && events[0].userdata == 7 && events[0].type == __WASI_EVENTTYPE_FD_WRITE);
}

static void check_streams(void)
{
    uint8_t bytes[64];
    u32 got, total = 0;
    __wasi_subscription_t one = fd_event(8, __WASI_EVENTTYPE_FD_READ, 0);
    expect("standard input", poll(&one, 1), 0);
    expect_true("has something",
                count == 1 && events[0].userdata == 8 && events[0].type == __WASI_EVENTTYPE_FD_READ &&
                    events[0].error == 0);
    do {
        need("read", read_fd(0, bytes, sizeof bytes, &got));
        total += got;
    } while (got > 0);
    expect_number("all of it", total, 6);
    expect("standard input at its end", poll(&one, 1), 0);
    expect_number("is ready to say so", count, 1);
    one = fd_event(9, __WASI_EVENTTYPE_FD_WRITE, 2);
    expect("standard error", poll(&one, 1), 0);
    expect_number("is ready", count, 1);
}

static void check_files(void)
{
    u32 fd;
    put_file(DATA, "file", "content");
    need("open", open_at(DATA, "file", 0, READ | WRITE, &fd));
    __wasi_subscription_t both[2] = {
        fd_event(10, __WASI_EVENTTYPE_FD_READ, fd),
        fd_event(11, __WASI_EVENTTYPE_FD_WRITE, fd),
    };
    expect("a file to read", poll(both, 1), 0);
    expect_true("is ready", count == 1 && events[0].userdata == 10);
    expect("a file to write", poll(both + 1, 1), 0);
    expect_true("is ready", count == 1 && events[0].userdata == 11);
    expect("a file for both", poll(both, 2), 0);
    expect_true("is ready for one at least", count >= 1 && count <= 2);
    u64 position;
    need("seek", seek(fd, 0, __WASI_WHENCE_END, &position));
    expect("a file at its end", poll(both, 1), 0);
    expect_true("is ready, and hung up",
                count == 1 && events[0].fd_readwrite.flags == __WASI_EVENTRWFLAGS_FD_READWRITE_HANGUP);
    need("close", raw_fd_close(fd));
    expect("a closed file", poll(both, 1), __WASI_ERRNO_BADF);
    expect("no descriptor among others", poll(both, 2), __WASI_ERRNO_BADF);
    __wasi_subscription_t one = fd_event(12, __WASI_EVENTTYPE_FD_READ, DATA);
    expect("a folder to read", poll(&one, 1), __WASI_ERRNO_BADF);
    one = fd_event(12, __WASI_EVENTTYPE_FD_WRITE, 0);
    expect("standard input to write", poll(&one, 1), __WASI_ERRNO_BADF);
    one = fd_event(12, __WASI_EVENTTYPE_FD_READ, 1);
    expect("standard output to read", poll(&one, 1), __WASI_ERRNO_BADF);
}

static void check_many(void)
{
    enum { FEW = 100, MANY = 4000 };
    static __wasi_subscription_t subscriptions[MANY];
    static __wasi_event_t all[MANY];
    for (u32 i = 0; i < MANY; i++)
        subscriptions[i] = clock_event(i, __WASI_CLOCKID_MONOTONIC, i == FEW - 1 ? 1000 : HOUR_NS, 0);
    expect("a hundred", raw_poll_oneoff(P(subscriptions), P(all), FEW, P(&count)), 0);
    expect_true("one of them is due", count == 1 && all[0].userdata == FEW - 1);
    expect("more than a guest may hold", raw_poll_oneoff(P(subscriptions), P(all), MANY, P(&count)), __WASI_ERRNO_MFILE);
    expect("a hundred again", raw_poll_oneoff(P(subscriptions), P(all), FEW, P(&count)), 0);
}

int main(void)
{
    check_clocks();
    check_several();
    check_streams();
    check_files();
    check_many();
    return finish();
}
