/* Arguments, environment, clocks, randomness, yielding and signals, as wasi_snapshot_preview1 publishes them. */
#include "../check.h"

enum { ARGS = 5, ARG_BYTES_MAX = 256, GUARD = 0x5a };

static void check_arguments(void)
{
    static const char *const expected[ARGS] = {NULL, "one", "two words", "", "größer"};
    static char bytes[ARG_BYTES_MAX];
    u32 count, size, argv[ARGS + 1];
    expect("args_sizes_get", raw_args_sizes_get(P(&count), P(&size)), 0);
    expect_number("as many arguments as were given", count, ARGS);
    if (count != ARGS || size > sizeof bytes)
        return;
    memset(bytes, GUARD, sizeof bytes);
    argv[ARGS] = GUARD;
    expect("args_get", raw_args_get(P(argv), P(bytes)), 0);
    expect_true("the first argument is at the start", argv[0] == P(bytes));
    for (u32 i = 1; i < count; i++)
        expect_true("an argument is what was given", strcmp((char *)(uintptr_t)argv[i], expected[i]) == 0);
    expect_true("the sizes are exact",
                argv[ARGS] == GUARD && bytes[size - 1] == '\0' && bytes[size] == GUARD);
}

static void check_environment(void)
{
    static char bytes[ARG_BYTES_MAX];
    u32 count, size, environment[4] = {0};
    expect("environ_sizes_get", raw_environ_sizes_get(P(&count), P(&size)), 0);
    expect_number("as many variables as were given", count, 3);
    if (count != 3 || size > sizeof bytes)
        return;
    memset(bytes, GUARD, sizeof bytes);
    expect("environ_get", raw_environ_get(P(environment), P(bytes)), 0);
    expect_true("a variable", strcmp((char *)(uintptr_t)environment[0], "NAME=value") == 0);
    expect_true("a variable with an equals sign in it", strcmp((char *)(uintptr_t)environment[1], "A=b=c") == 0);
    expect_true("an empty variable", strcmp((char *)(uintptr_t)environment[2], "EMPTY=") == 0);
    expect_true("the size is exact", environment[3] == 0 && bytes[size - 1] == '\0' && bytes[size] == GUARD);
}

static void check_clocks(void)
{
    const u64 SECOND_NS = 1000000000, YEAR_2020_NS = 1577836800 * SECOND_NS;
    u64 now = 0, later = 0;
    expect("clock_res_get of real time", raw_clock_res_get(__WASI_CLOCKID_REALTIME, P(&now)), 0);
    expect_true("real time has a resolution within a second", now > 0 && now <= SECOND_NS);
    expect("clock_res_get of the monotonic clock", raw_clock_res_get(__WASI_CLOCKID_MONOTONIC, P(&now)), 0);
    expect_true("the monotonic clock has a resolution within a second", now > 0 && now <= SECOND_NS);
    expect("clock_time_get of real time", raw_clock_time_get(__WASI_CLOCKID_REALTIME, 0, P(&now)), 0);
    expect_true("real time is past 2020", now > YEAR_2020_NS);
    int backwards = 0;
    need("clock_time_get of the monotonic clock", raw_clock_time_get(__WASI_CLOCKID_MONOTONIC, 0, P(&now)));
    for (int i = 0; i < 1000; i++) {
        need("clock_time_get again", raw_clock_time_get(__WASI_CLOCKID_MONOTONIC, (u64)i * SECOND_NS, P(&later)));
        backwards += later < now;
        now = later;
    }
    expect_number("the monotonic clock never goes back", (u64)backwards, 0);
    /* These two count the host's time on the processor, which is not the guest's to know. */
    for (u32 clock = __WASI_CLOCKID_PROCESS_CPUTIME_ID; clock <= __WASI_CLOCKID_THREAD_CPUTIME_ID; clock++) {
        expect("a processor clock is not given", raw_clock_time_get(clock, 0, P(&now)), __WASI_ERRNO_BADF);
        expect("a processor clock has no resolution", raw_clock_res_get(clock, P(&now)), __WASI_ERRNO_BADF);
    }
    expect("an unknown clock", raw_clock_time_get(4, 0, P(&now)), __WASI_ERRNO_INVAL);
    expect("an unknown clock's resolution", raw_clock_res_get(UINT32_MAX, P(&now)), __WASI_ERRNO_INVAL);
}

static void check_random(void)
{
    enum { BYTES = 32, LARGE_PAGES = 320, PAGE_BYTES = 65536 };
    uint8_t first[BYTES + 1], second[BYTES];
    static const uint8_t zero[BYTES];
    memset(first, GUARD, sizeof first);
    expect("random_get of nothing", raw_random_get(P(first), 0), 0);
    expect_true("random_get of nothing writes nothing", first[0] == GUARD);
    expect("random_get", raw_random_get(P(first), BYTES), 0);
    expect("random_get again", raw_random_get(P(second), BYTES), 0);
    expect_true("random bytes differ", memcmp(first, second, BYTES) != 0 && memcmp(first, zero, BYTES) != 0);
    expect_true("random_get writes no more than asked for", first[BYTES] == GUARD);
    size_t pages = __builtin_wasm_memory_grow(0, LARGE_PAGES);
    uint8_t *large = (uint8_t *)(pages * PAGE_BYTES);
    expect("random_get of 20 MiB", raw_random_get(P(large), LARGE_PAGES * PAGE_BYTES), 0);
    u32 filled = 0;
    for (u32 page = 0; page < LARGE_PAGES; page++)
        filled += memcmp(large + (page + 1) * PAGE_BYTES - BYTES, zero, BYTES) != 0;
    expect_number("random_get of 20 MiB fills every page to its end", filled, LARGE_PAGES);
}

int main(void)
{
    check_arguments();
    check_environment();
    check_clocks();
    check_random();
    expect("sched_yield", raw_sched_yield(), 0);
    expect("proc_raise of a signal", raw_proc_raise(6), __WASI_ERRNO_NOTSUP);
    expect("proc_raise of no signal", raw_proc_raise(0), __WASI_ERRNO_NOTSUP);
    expect("proc_raise of what is no signal", raw_proc_raise(255), __WASI_ERRNO_INVAL);
    return finish();
}
