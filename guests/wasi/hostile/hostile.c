/* Every function of WASI preview 1 with addresses, lengths, counts, flags and descriptors that make no sense: the
 * answer must be an errno, never a trap. proc_exit takes nothing that could be wrong; guest "exit" tries its codes. */
#include "../check.h"

enum { DATA = FIRST_GRANT, PAGE_BYTES = 65536, VALUES_MAX = 8 };

struct values {
    u32 count;
    u32 values[VALUES_MAX];
};

/* Beyond memory, or across its end for anything of four bytes or more. */
static struct values outside;
/* Within memory, but not where a number of four bytes may be. */
static struct values unaligned;
static struct values lengths;
static const struct values no_fd = {4, {77, 1024, 0x80000000, 0xffffffff}};
static const struct values no_enum = {4, {6, 255, 0x80000000, 0xffffffff}};
static const struct values no_flags = {4, {0x40, 0x8000, 0x80000000, 0xffffffff}};

static _Alignas(16) uint8_t bytes[512];
static _Alignas(16) uint8_t results[64];
static __wasi_iovec_t iov = {bytes, 16};
static const char file_name[] = "file";
static u32 file;

#define NAME P(file_name), 4
#define OUT P(results)
#define IOV P(&iov), 1

/* Calls with each value, which the call names v, and wants the same errno each time. */
#define TRY(list, expected, name, call) \
    do { \
        u32 wrong = 0; \
        for (u32 i = 0; i < (list).count; i++) { \
            const u32 v = (list).values[i]; \
            const u32 got = (call); \
            wrong += complain(name, v, got, expected); \
        } \
        if (wrong == 0) \
            say_ok(name); \
    } while (0)

static u32 complain(const char *name, u32 value, u32 got, u32 expected)
{
    if (got == expected)
        return 0;
    say_failure(name);
    say_errno(got);
    say(", expected ");
    say_errno(expected);
    say(", with ");
    say_number(value);
    say("\n");
    return 1;
}

static void set_values(void)
{
    const u32 end = (u32)__builtin_wasm_memory_size(0) * PAGE_BYTES;
    outside = (struct values){7, {end, end - 1, end - 3, 0x80000000, 0xfffffff0, 0xfffffffc, 0xffffffff}};
    unaligned = (struct values){3, {OUT + 1, OUT + 2, OUT + 3}};
    lengths = (struct values){6, {end, end + 1, 0x10000000, 0x80000000, 0xfffffff8, 0xffffffff}};
}

static u32 read_into(u32 address, u32 length)
{
    __wasi_iovec_t part = {(uint8_t *)(uintptr_t)address, length};
    return raw_fd_read(file, P(&part), 1, OUT);
}

static u32 pread_into(u32 address, u32 length)
{
    __wasi_iovec_t part = {(uint8_t *)(uintptr_t)address, length};
    return raw_fd_pread(file, P(&part), 1, 0, OUT);
}

static u32 write_from(u32 fd, u32 address, u32 length)
{
    __wasi_ciovec_t part = {(const uint8_t *)(uintptr_t)address, length};
    return raw_fd_write(fd, P(&part), 1, OUT);
}

static u32 pwrite_from(u32 address, u32 length)
{
    __wasi_ciovec_t part = {(const uint8_t *)(uintptr_t)address, length};
    return raw_fd_pwrite(file, P(&part), 1, 0, OUT);
}

static __wasi_subscription_t at_once(void)
{
    __wasi_subscription_t subscription = {.u.tag = __WASI_EVENTTYPE_CLOCK};
    subscription.u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
    return subscription;
}

static u32 poll_with(u32 subscriptions, u32 events, u32 count, u32 result)
{
    static _Alignas(16) __wasi_subscription_t one;
    one = at_once();
    return raw_poll_oneoff(subscriptions == 0 ? P(&one) : subscriptions, events, count, result);
}

static u32 poll_kind(u32 tag)
{
    __wasi_subscription_t one = at_once();
    one.u.tag = (uint8_t)tag;
    return poll_with(P(&one), P(bytes), 1, OUT);
}

static u32 poll_clock(u32 clock, u32 flags)
{
    __wasi_subscription_t one = at_once();
    one.u.u.clock.id = clock;
    one.u.u.clock.flags = (__wasi_subclockflags_t)flags;
    return poll_with(P(&one), P(bytes), 1, OUT);
}

/* What is read must be in memory. */
static void check_inputs(const char *title, const struct values *bad)
{
    const u32 FAULT = __WASI_ERRNO_FAULT;
    say("# ");
    say(title);
    say("\n");
    TRY(*bad, FAULT, "fd_pread, iovs", raw_fd_pread(file, v, 1, 0, OUT));
    TRY(*bad, FAULT, "fd_pwrite, iovs", raw_fd_pwrite(file, v, 1, 0, OUT));
    TRY(*bad, FAULT, "fd_read, iovs", raw_fd_read(file, v, 1, OUT));
    TRY(*bad, FAULT, "fd_read of standard input, iovs", raw_fd_read(0, v, 1, OUT));
    TRY(*bad, FAULT, "fd_write, iovs", raw_fd_write(file, v, 1, OUT));
    TRY(*bad, FAULT, "fd_write to standard output, iovs", raw_fd_write(1, v, 1, OUT));
    TRY(*bad, FAULT, "poll_oneoff, subscriptions", poll_with(v, P(bytes), 1, OUT));
    TRY(*bad, FAULT, "poll_oneoff, subscriptions of two", poll_with(v, P(bytes), 2, OUT));
}

/* What is written must be in memory, and numbers must be where numbers may be. */
static void check_results(const char *title, const struct values *bad)
{
    const u32 FAULT = __WASI_ERRNO_FAULT;
    u32 opened;
    say("# ");
    say(title);
    say("\n");
    TRY(*bad, FAULT, "args_get, argv", raw_args_get(v, P(bytes)));
    TRY(*bad, FAULT, "args_sizes_get, count", raw_args_sizes_get(v, OUT));
    TRY(*bad, FAULT, "args_sizes_get, size", raw_args_sizes_get(OUT, v));
    TRY(*bad, FAULT, "environ_get, environment", raw_environ_get(v, P(bytes)));
    TRY(*bad, FAULT, "environ_sizes_get, count", raw_environ_sizes_get(v, OUT));
    TRY(*bad, FAULT, "environ_sizes_get, size", raw_environ_sizes_get(OUT, v));
    TRY(*bad, FAULT, "clock_res_get", raw_clock_res_get(0, v));
    TRY(*bad, FAULT, "clock_time_get", raw_clock_time_get(0, 0, v));
    TRY(*bad, FAULT, "fd_fdstat_get", raw_fd_fdstat_get(file, v));
    TRY(*bad, FAULT, "fd_filestat_get", raw_fd_filestat_get(file, v));
    TRY(*bad, FAULT, "fd_pread", raw_fd_pread(file, IOV, 0, v));
    TRY(*bad, FAULT, "fd_prestat_get", raw_fd_prestat_get(DATA, v));
    TRY(*bad, FAULT, "fd_pwrite", raw_fd_pwrite(file, IOV, 0, v));
    TRY(*bad, FAULT, "fd_read", raw_fd_read(file, IOV, v));
    TRY(*bad, FAULT, "fd_read of nothing", raw_fd_read(file, P(&iov), 0, v));
    TRY(*bad, FAULT, "fd_readdir", raw_fd_readdir(DATA, P(bytes), sizeof bytes, 0, v));
    TRY(*bad, FAULT, "fd_seek", raw_fd_seek(file, 0, 0, v));
    TRY(*bad, FAULT, "fd_tell", raw_fd_tell(file, v));
    TRY(*bad, FAULT, "fd_write", raw_fd_write(file, IOV, v));
    TRY(*bad, FAULT, "path_filestat_get", raw_path_filestat_get(DATA, 0, NAME, v));
    TRY(*bad, FAULT, "path_open", raw_path_open(DATA, 0, NAME, 0, READ, READ, 0, v));
    TRY(*bad, FAULT, "path_readlink", raw_path_readlink(DATA, P("link"), 4, P(bytes), 64, v));
    TRY(*bad, FAULT, "poll_oneoff", poll_with(0, P(bytes), 1, v));
    TRY(*bad, FAULT, "poll_oneoff, events", poll_with(0, v, 1, OUT));
    /* There are no sockets, so their results are never written. */
    TRY(*bad, __WASI_ERRNO_NOTSOCK, "sock_accept", raw_sock_accept(file, 0, v));
    TRY(*bad, __WASI_ERRNO_NOTSOCK, "sock_recv", raw_sock_recv(file, IOV, 0, v, OUT));
    TRY(*bad, __WASI_ERRNO_NOTSOCK, "sock_recv, flags", raw_sock_recv(file, IOV, 0, OUT, v));
    TRY(*bad, __WASI_ERRNO_NOTSOCK, "sock_send", raw_sock_send(file, IOV, 0, v));
    expect("files can still be opened", open_at(DATA, file_name, 0, READ, &opened), 0);
    need("close", raw_fd_close(opened));
}

static void check_buffers(void)
{
    const u32 FAULT = __WASI_ERRNO_FAULT;
    say("# buffers outside memory\n");
    TRY(outside, FAULT, "args_get", raw_args_get(P(bytes), v));
    TRY(outside, FAULT, "environ_get", raw_environ_get(P(bytes), v));
    TRY(outside, FAULT, "fd_pread", pread_into(v, 16));
    TRY(outside, FAULT, "fd_prestat_dir_name", raw_fd_prestat_dir_name(DATA, v, 64));
    TRY(outside, FAULT, "fd_pwrite", pwrite_from(v, 16));
    TRY(outside, FAULT, "fd_read", read_into(v, 16));
    TRY(outside, FAULT, "fd_readdir", raw_fd_readdir(DATA, v, 64, 0, OUT));
    TRY(outside, FAULT, "fd_write", write_from(file, v, 16));
    TRY(outside, FAULT, "fd_write to standard output", write_from(1, v, 16));
    TRY(outside, FAULT, "path_create_directory", raw_path_create_directory(DATA, v, 16));
    TRY(outside, FAULT, "path_filestat_get", raw_path_filestat_get(DATA, 0, v, 16, OUT));
    TRY(outside, FAULT, "path_filestat_set_times", raw_path_filestat_set_times(DATA, 0, v, 16, 0, 0, 0));
    TRY(outside, FAULT, "path_link, old", raw_path_link(DATA, 0, v, 16, DATA, P("new"), 3));
    TRY(outside, FAULT, "path_link, new", raw_path_link(DATA, 0, NAME, DATA, v, 16));
    TRY(outside, FAULT, "path_open", raw_path_open(DATA, 0, v, 16, CREATE, WRITE, WRITE, 0, OUT));
    TRY(outside, FAULT, "path_readlink, path", raw_path_readlink(DATA, v, 16, P(bytes), 64, OUT));
    TRY(outside, FAULT, "path_readlink, buffer", raw_path_readlink(DATA, P("link"), 4, v, 64, OUT));
    TRY(outside, FAULT, "path_remove_directory", raw_path_remove_directory(DATA, v, 16));
    TRY(outside, FAULT, "path_rename, old", raw_path_rename(DATA, v, 16, DATA, P("new"), 3));
    TRY(outside, FAULT, "path_rename, new", raw_path_rename(DATA, NAME, DATA, v, 16));
    TRY(outside, FAULT, "path_symlink, target", raw_path_symlink(v, 16, DATA, P("new"), 3));
    TRY(outside, FAULT, "path_symlink, path", raw_path_symlink(NAME, DATA, v, 16));
    TRY(outside, FAULT, "path_unlink_file", raw_path_unlink_file(DATA, v, 16));
    TRY(outside, FAULT, "random_get", raw_random_get(v, 16));
}

static void check_lengths(void)
{
    const u32 LONG = __WASI_ERRNO_NAMETOOLONG, MUCH = __WASI_ERRNO_NOMEM;
    say("# lengths beyond memory\n");
    TRY(lengths, LONG, "path_create_directory", raw_path_create_directory(DATA, P(file_name), v));
    TRY(lengths, LONG, "path_filestat_get", raw_path_filestat_get(DATA, 0, P(file_name), v, OUT));
    TRY(lengths, LONG, "path_filestat_set_times", raw_path_filestat_set_times(DATA, 0, P(file_name), v, 0, 0, 0));
    TRY(lengths, LONG, "path_link, old", raw_path_link(DATA, 0, P(file_name), v, DATA, P("new"), 3));
    TRY(lengths, LONG, "path_link, new", raw_path_link(DATA, 0, NAME, DATA, P("new"), v));
    TRY(lengths, LONG, "path_open", raw_path_open(DATA, 0, P(file_name), v, 0, READ, READ, 0, OUT));
    TRY(lengths, LONG, "path_readlink", raw_path_readlink(DATA, P("link"), v, P(bytes), 64, OUT));
    TRY(lengths, LONG, "path_remove_directory", raw_path_remove_directory(DATA, P(file_name), v));
    TRY(lengths, LONG, "path_rename, old", raw_path_rename(DATA, P(file_name), v, DATA, P("new"), 3));
    TRY(lengths, LONG, "path_rename, new", raw_path_rename(DATA, NAME, DATA, P("new"), v));
    TRY(lengths, LONG, "path_symlink, target", raw_path_symlink(P(file_name), v, DATA, P("new"), 3));
    TRY(lengths, LONG, "path_symlink, path", raw_path_symlink(NAME, DATA, P("new"), v));
    TRY(lengths, LONG, "path_unlink_file", raw_path_unlink_file(DATA, P(file_name), v));
    TRY(lengths, __WASI_ERRNO_FAULT, "random_get", raw_random_get(P(bytes), v));
    /* These write what there is and look at no more of the buffer. */
    TRY(lengths, 0, "fd_prestat_dir_name", raw_fd_prestat_dir_name(DATA, P(bytes), v));
    TRY(lengths, 0, "path_readlink, buffer", raw_path_readlink(DATA, P("link"), 4, P(bytes), v, OUT));
    TRY(lengths, 0, "fd_readdir", raw_fd_readdir(DATA, P(bytes), v, 0, OUT));
    const struct values much = {4, {0x10000000, 0x80000000, 0xfffffff8, 0xffffffff}};
    TRY(much, MUCH, "fd_read", read_into(P(bytes), v));
    TRY(much, MUCH, "fd_pread", pread_into(P(bytes), v));
    TRY(much, MUCH, "fd_write", write_from(file, P(bytes), v));
    TRY(much, MUCH, "fd_write to standard output", write_from(1, P(bytes), v));
    TRY(much, MUCH, "fd_pwrite", pwrite_from(P(bytes), v));
    const struct values across = {2, {lengths.values[0], lengths.values[1]}};
    TRY(across, __WASI_ERRNO_FAULT, "fd_read across the end", read_into(P(bytes), v));
    TRY(across, 0, "fd_pread across the end, of less than that", pread_into(P(bytes), v));
    TRY(across, __WASI_ERRNO_FAULT, "fd_write across the end", write_from(file, P(bytes), v));
    TRY(across, __WASI_ERRNO_FAULT, "fd_pwrite across the end", pwrite_from(P(bytes), v));
    say("# counts that overflow\n");
    TRY(much, MUCH, "fd_read", raw_fd_read(file, P(&iov), v, OUT));
    TRY(much, MUCH, "fd_read of standard input", raw_fd_read(0, P(&iov), v, OUT));
    TRY(much, MUCH, "fd_pread", raw_fd_pread(file, P(&iov), v, 0, OUT));
    TRY(much, MUCH, "fd_write", raw_fd_write(file, P(&iov), v, OUT));
    TRY(much, MUCH, "fd_pwrite", raw_fd_pwrite(file, P(&iov), v, 0, OUT));
    TRY(much, MUCH, "poll_oneoff", poll_with(0, P(bytes), v, OUT));
    TRY(much, __WASI_ERRNO_NOTSOCK, "sock_recv", raw_sock_recv(file, P(&iov), v, 0, OUT, OUT));
    TRY(much, __WASI_ERRNO_NOTSOCK, "sock_send", raw_sock_send(file, P(&iov), v, 0, OUT));
}

static void check_enums(void)
{
    const u32 INVALID = __WASI_ERRNO_INVAL;
    const u64 NO_RIGHTS = UINT64_C(1) << 63;
    say("# values and flags that are none\n");
    TRY(no_enum, INVALID, "clock_res_get", raw_clock_res_get(v, OUT));
    TRY(no_enum, INVALID, "clock_time_get", raw_clock_time_get(v, 0, OUT));
    TRY(no_enum, INVALID, "fd_advise", raw_fd_advise(file, 0, 0, v));
    TRY(no_enum, INVALID, "fd_seek", raw_fd_seek(file, 0, v, OUT));
    const struct values no_signal = {3, {31, 255, 0xffffffff}};
    TRY(no_signal, INVALID, "proc_raise", raw_proc_raise(v));
    TRY(no_flags, INVALID, "fd_fdstat_set_flags", raw_fd_fdstat_set_flags(file, v));
    TRY(no_flags, INVALID, "fd_filestat_set_times", raw_fd_filestat_set_times(file, 0, 0, v));
    TRY(no_flags, INVALID, "path_filestat_get", raw_path_filestat_get(DATA, v, NAME, OUT));
    TRY(no_flags, INVALID, "path_filestat_set_times, lookup", raw_path_filestat_set_times(DATA, v, NAME, 0, 0, 0));
    TRY(no_flags, INVALID, "path_filestat_set_times", raw_path_filestat_set_times(DATA, 0, NAME, 0, 0, v));
    TRY(no_flags, INVALID, "path_link", raw_path_link(DATA, v, NAME, DATA, P("new"), 3));
    TRY(no_flags, INVALID, "path_open, lookup", raw_path_open(DATA, v, NAME, 0, READ, READ, 0, OUT));
    TRY(no_flags, INVALID, "path_open, oflags", raw_path_open(DATA, 0, NAME, v, READ, READ, 0, OUT));
    TRY(no_flags, INVALID, "path_open, fdflags", raw_path_open(DATA, 0, NAME, 0, READ, READ, v, OUT));
    TRY(no_flags, INVALID, "sock_accept", raw_sock_accept(file, v, OUT));
    TRY(no_flags, INVALID, "sock_recv", raw_sock_recv(file, IOV, v, OUT, OUT));
    TRY(no_flags, INVALID, "sock_shutdown", raw_sock_shutdown(file, v));
    const struct values no_kind = {3, {3, 128, 255}};
    TRY(no_kind, INVALID, "poll_oneoff, kind", poll_kind(v));
    TRY(no_enum, INVALID, "poll_oneoff, clock", poll_clock(v, 0));
    const struct values no_clock_flags = {3, {2, 0x8000, 0xffff}};
    TRY(no_clock_flags, INVALID, "poll_oneoff, flags", poll_clock(__WASI_CLOCKID_MONOTONIC, v));
    expect("fd_fdstat_set_rights", raw_fd_fdstat_set_rights(file, NO_RIGHTS, 0), INVALID);
    expect("path_open, rights", raw_path_open(DATA, 0, NAME, 0, NO_RIGHTS, READ, 0, OUT), INVALID);
    expect("path_open, rights to inherit", raw_path_open(DATA, 0, NAME, 0, READ, NO_RIGHTS, 0, OUT), INVALID);
}

static void check_fds(void)
{
    const u32 BAD = __WASI_ERRNO_BADF;
    say("# descriptors that are none\n");
    TRY(no_fd, BAD, "fd_advise", raw_fd_advise(v, 0, 0, 0));
    TRY(no_fd, BAD, "fd_allocate", raw_fd_allocate(v, 0, 0));
    TRY(no_fd, BAD, "fd_close", raw_fd_close(v));
    TRY(no_fd, BAD, "fd_datasync", raw_fd_datasync(v));
    TRY(no_fd, BAD, "fd_fdstat_get", raw_fd_fdstat_get(v, OUT));
    TRY(no_fd, BAD, "fd_fdstat_set_flags", raw_fd_fdstat_set_flags(v, 0));
    TRY(no_fd, BAD, "fd_fdstat_set_rights", raw_fd_fdstat_set_rights(v, 0, 0));
    TRY(no_fd, BAD, "fd_filestat_get", raw_fd_filestat_get(v, OUT));
    TRY(no_fd, BAD, "fd_filestat_set_size", raw_fd_filestat_set_size(v, 0));
    TRY(no_fd, BAD, "fd_filestat_set_times", raw_fd_filestat_set_times(v, 0, 0, 0));
    TRY(no_fd, BAD, "fd_pread", raw_fd_pread(v, IOV, 0, OUT));
    TRY(no_fd, BAD, "fd_prestat_get", raw_fd_prestat_get(v, OUT));
    TRY(no_fd, BAD, "fd_prestat_dir_name", raw_fd_prestat_dir_name(v, P(bytes), 64));
    TRY(no_fd, BAD, "fd_pwrite", raw_fd_pwrite(v, IOV, 0, OUT));
    TRY(no_fd, BAD, "fd_read", raw_fd_read(v, IOV, OUT));
    TRY(no_fd, BAD, "fd_readdir", raw_fd_readdir(v, P(bytes), 64, 0, OUT));
    TRY(no_fd, BAD, "fd_renumber, from", raw_fd_renumber(v, file));
    TRY(no_fd, BAD, "fd_renumber, to", raw_fd_renumber(file, v));
    TRY(no_fd, BAD, "fd_seek", raw_fd_seek(v, 0, 0, OUT));
    TRY(no_fd, BAD, "fd_sync", raw_fd_sync(v));
    TRY(no_fd, BAD, "fd_tell", raw_fd_tell(v, OUT));
    TRY(no_fd, BAD, "fd_write", raw_fd_write(v, IOV, OUT));
    TRY(no_fd, BAD, "path_create_directory", raw_path_create_directory(v, P("new"), 3));
    TRY(no_fd, BAD, "path_filestat_get", raw_path_filestat_get(v, 0, NAME, OUT));
    TRY(no_fd, BAD, "path_filestat_set_times", raw_path_filestat_set_times(v, 0, NAME, 0, 0, 0));
    TRY(no_fd, BAD, "path_link, from", raw_path_link(v, 0, NAME, DATA, P("new"), 3));
    TRY(no_fd, BAD, "path_link, to", raw_path_link(DATA, 0, NAME, v, P("new"), 3));
    TRY(no_fd, BAD, "path_open", raw_path_open(v, 0, NAME, 0, READ, READ, 0, OUT));
    TRY(no_fd, BAD, "path_readlink", raw_path_readlink(v, P("link"), 4, P(bytes), 64, OUT));
    TRY(no_fd, BAD, "path_remove_directory", raw_path_remove_directory(v, NAME));
    TRY(no_fd, BAD, "path_rename, from", raw_path_rename(v, NAME, DATA, P("new"), 3));
    TRY(no_fd, BAD, "path_rename, to", raw_path_rename(DATA, NAME, v, P("new"), 3));
    TRY(no_fd, BAD, "path_symlink", raw_path_symlink(NAME, v, P("new"), 3));
    TRY(no_fd, BAD, "path_unlink_file", raw_path_unlink_file(v, NAME));
    TRY(no_fd, BAD, "sock_accept", raw_sock_accept(v, 0, OUT));
    TRY(no_fd, BAD, "sock_recv", raw_sock_recv(v, IOV, 0, OUT, OUT));
    TRY(no_fd, BAD, "sock_send", raw_sock_send(v, IOV, 0, OUT));
    TRY(no_fd, BAD, "sock_shutdown", raw_sock_shutdown(v, 1));
}

/* Buffers that lie over each other, over the vector that names them, or over the result. */
static void check_overlaps(void)
{
    say("# overlaps\n");
    u64 position;
    need("seek", seek(file, 0, __WASI_WHENCE_SET, &position));
    __wasi_iovec_t same[2] = {{bytes, 4}, {bytes + 2, 4}};
    expect("two buffers", raw_fd_read(file, P(same), 2, OUT), 0);
    need("seek", seek(file, 0, __WASI_WHENCE_SET, &position));
    __wasi_iovec_t self[2];
    self[0] = (__wasi_iovec_t){(uint8_t *)self, sizeof self};
    self[1] = (__wasi_iovec_t){(uint8_t *)self, sizeof self};
    expect("a buffer over its own vector", raw_fd_read(file, P(self), 2, OUT), 0);
    expect_true("gets the file", memcmp(self, "hostile ", 8) == 0);
    need("seek", seek(file, 0, __WASI_WHENCE_SET, &position));
    iov = (__wasi_iovec_t){bytes, 16};
    expect("a result in the buffer", raw_fd_read(file, IOV, P(bytes)), 0);
    expect_number("is written last", *(u32 *)(void *)bytes, 16);
    need("seek", seek(file, 0, __WASI_WHENCE_SET, &position));
    expect("a result over the vector", raw_fd_read(file, IOV, P(&iov)), 0);
    expect_number("is written", P(iov.buf), 16);
    iov = (__wasi_iovec_t){bytes, 16};
    expect("arguments over their own list", raw_args_get(P(bytes), P(bytes)), 0);
    _Alignas(16) __wasi_subscription_t one = at_once();
    expect("an event over its subscription", raw_poll_oneoff(P(&one), P(&one), 1, OUT), 0);
    __wasi_ciovec_t address_zero = {(const uint8_t *)0, 8};
    expect("address zero is memory like any other", raw_fd_pwrite(file, P(&address_zero), 1, 16, OUT), 0);
}

int main(void)
{
    put_file(DATA, file_name, "hostile to the host, but not for long");
    need("symlink", symlink_at(file_name, DATA, "link"));
    need("open", open_at(DATA, file_name, 0, READ | WRITE, &file));
    set_values();
    check_overlaps();
    check_inputs("vectors outside memory", &outside);
    check_inputs("vectors that are not aligned", &unaligned);
    check_results("results outside memory", &outside);
    check_results("results that are not aligned", &unaligned);
    check_buffers();
    check_lengths();
    check_enums();
    check_fds();
    __wasi_filestat_t stat;
    expect("nothing new was made", stat_at(DATA, 0, "new", &stat), __WASI_ERRNO_NOENT);
    expect("the file is there", stat_at(DATA, 0, file_name, &stat), 0);
    return finish();
}
