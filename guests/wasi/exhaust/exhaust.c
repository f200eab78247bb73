/* A guest that takes all it can get: descriptors, links, room in buffers. It must be told so, and live on. */
#include "../check.h"

enum { DATA = FIRST_GRANT, DESCRIPTORS_MAX = 1024, PAGE_BYTES = 65536 };

static u32 fds[DESCRIPTORS_MAX + 1];

static u32 open_all(const char *path, u32 oflags, u32 *code)
{
    u32 opened = 0;
    while (opened <= DESCRIPTORS_MAX && (*code = open_at(DATA, path, oflags, READ, &fds[opened])) == 0)
        opened++;
    return opened;
}

static void close_all(u32 opened)
{
    for (u32 i = 0; i < opened; i++)
        need("close", raw_fd_close(fds[i]));
}

static void check_descriptors(const char *path, u32 oflags)
{
    u32 code, again, got;
    char byte;
    u32 opened = open_all(path, oflags, &code);
    expect("too many are refused", code, __WASI_ERRNO_MFILE);
    expect_true("but not before there are many", opened > 900 && opened < DESCRIPTORS_MAX);
    expect("what is open is read", oflags == DIRECTORY ? 0 : read_fd(fds[opened - 1], &byte, 1, &got), 0);
    expect("once more", open_at(DATA, path, oflags, READ, &again), __WASI_ERRNO_MFILE);
    /* These need a place of their own for a moment. */
    u32 code_of_list = raw_fd_readdir(DATA, P(&byte), 1, 0, P(&got));
    expect("a list has no place", code_of_list, __WASI_ERRNO_MFILE);
    if (oflags != DIRECTORY)
        expect("a read at an offset has no place", pread_fd(fds[0], &byte, 1, 0, &got), __WASI_ERRNO_MFILE);
    need("close one", raw_fd_close(fds[--opened]));
    expect("then one fits", open_at(DATA, path, oflags, READ, &again), 0);
    need("close", raw_fd_close(again));
    close_all(opened);
    expect_number("all of them were given back", open_all(path, oflags, &code), opened + 1);
    close_all(opened + 1);
}

static void check_refused_opens(void)
{
    u32 refused = 0;
    for (u32 i = 0; i < 3000; i++)
        refused += try_open(DATA, 0, "missing", 0, READ) == __WASI_ERRNO_NOENT;
    for (u32 i = 0; i < 3000; i++)
        refused += try_open(DATA, 0, "../x", 0, READ) == __WASI_ERRNO_PERM;
    expect_number("what is refused takes no place", refused, 6000);
}

static void check_polls(void)
{
    enum { MANY = 1500, ROUNDS = 20 };
    static __wasi_subscription_t subscriptions[MANY];
    static __wasi_event_t events[MANY];
    u32 count, fd, refused = 0;
    need("open", open_at(DATA, "file", 0, READ, &fd));
    for (u32 i = 0; i < MANY; i++) {
        subscriptions[i].u.tag = __WASI_EVENTTYPE_FD_READ;
        subscriptions[i].u.u.fd_read.file_descriptor = (__wasi_fd_t)fd;
    }
    for (u32 i = 0; i < ROUNDS; i++)
        refused += raw_poll_oneoff(P(subscriptions), P(events), MANY, P(&count)) == __WASI_ERRNO_MFILE;
    expect_number("too many files to wait for are refused", refused, ROUNDS);
    expect("a few are not", raw_poll_oneoff(P(subscriptions), P(events), 100, P(&count)), 0);
    for (u32 i = 0; i < MANY; i++) {
        memset(&subscriptions[i], 0, sizeof subscriptions[i]);
        subscriptions[i].u.tag = __WASI_EVENTTYPE_CLOCK;
        subscriptions[i].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
        subscriptions[i].u.u.clock.timeout = UINT64_MAX;
    }
    refused = 0;
    for (u32 i = 0; i < ROUNDS; i++)
        refused += raw_poll_oneoff(P(subscriptions), P(events), MANY, P(&count)) == __WASI_ERRNO_MFILE;
    expect_number("too many clocks to wait for are refused", refused, ROUNDS);
    need("close", raw_fd_close(fd));
}

static void check_symlinks(void)
{
    enum { LINKS = 1000 };
    char name[] = "l000";
    u32 made = 0, got, removed = 0;
    char bytes[64];
    for (u32 i = 0; i < LINKS; i++) {
        name[1] = (char)('0' + i / 100);
        name[2] = (char)('0' + i / 10 % 10);
        name[3] = (char)('0' + i % 10);
        made += symlink_at("file", DATA, name) == 0;
    }
    expect_number("a thousand links", made, LINKS);
    expect("are listed", raw_fd_readdir(DATA, P(bytes), sizeof bytes, 900, P(&got)), 0);
    expect_number("from any place", got, sizeof bytes);
    for (u32 i = 0; i < LINKS; i++) {
        name[1] = (char)('0' + i / 100);
        name[2] = (char)('0' + i / 10 % 10);
        name[3] = (char)('0' + i % 10);
        removed += unlink_at(DATA, name) == 0;
    }
    expect_number("and removed", removed, LINKS);
}

static void check_large_buffers(void)
{
    enum { MIB = 1 << 20, PAGES_PER_MIB = MIB / PAGE_BYTES, LARGE_MIB = 100, TOO_LARGE_MIB = 130 };
    uint8_t *large = (uint8_t *)(__builtin_wasm_memory_grow(0, TOO_LARGE_MIB * PAGES_PER_MIB) * PAGE_BYTES);
    u32 fd, got;
    need("open", open_at(DATA, "file", 0, READ | WRITE, &fd));
    expect("read into 100 MiB", read_fd(fd, large, LARGE_MIB * MIB, &got), 0);
    expect_bytes("what there is", large, got, "content\n");
    expect("read into 100 MiB at an offset", pread_fd(fd, large, LARGE_MIB * MIB, 4, &got), 0);
    expect_bytes("what there is", large, got, "ent\n");
    expect("read into more than the host copies", read_fd(fd, large, TOO_LARGE_MIB * MIB, &got), __WASI_ERRNO_NOMEM);
    expect("write more than the host copies", pwrite_fd(fd, large, TOO_LARGE_MIB * MIB, 0, &got), __WASI_ERRNO_NOMEM);
    expect("standard output takes no more either", write_fd(1, large, TOO_LARGE_MIB * MIB, &got), __WASI_ERRNO_NOMEM);
    expect("list into 100 MiB", raw_fd_readdir(DATA, P(large), LARGE_MIB * MIB, 0, P(&got)), 0);
    expect("randomness for 130 MiB", raw_random_get(P(large), TOO_LARGE_MIB * MIB), 0);
    expect("randomness for more than there is", raw_random_get(P(large), UINT32_MAX - P(large)), __WASI_ERRNO_FAULT);
    expect("a path of 100 MiB", raw_path_unlink_file(DATA, P(large), LARGE_MIB * MIB), __WASI_ERRNO_NAMETOOLONG);
    need("close", raw_fd_close(fd));
    expect_file("the file is as it was", DATA, "file", "content\n");
}

int main(void)
{
    say("# files\n");
    check_descriptors("file", 0);
    say("# directories\n");
    check_descriptors(".", DIRECTORY);
    check_refused_opens();
    check_symlinks();
    check_large_buffers();
    check_polls();
    return finish();
}
