/* How a guest of the WASI suite checks and reports: a line for each check, and exit code 1 if any failed.
 * Reports go out with fd_write alone, so that no libc stands between a check and the host. */
#ifndef CHECK_H
#define CHECK_H

#include "raw.h"

#include <string.h>

#define UNUSED __attribute__((unused))

enum { FIRST_GRANT = 3 };

/* Where the report goes; a check that moves standard output says so here. */
static u32 report_fd = 1;
static int failures;

static struct {
    char bytes[8192];
    u32 used;
} report;

static void flush_report(void)
{
    u32 done = 0;
    while (done < report.used) {
        __wasi_ciovec_t part = {(uint8_t *)report.bytes + done, report.used - done};
        u32 written;
        if (raw_fd_write(report_fd, P(&part), 1, P(&written)) != 0)
            raw_proc_exit(3);
        done += written;
    }
    report.used = 0;
}

static void say_bytes(const char *bytes, u32 length)
{
    for (u32 i = 0; i < length; i++) {
        if (report.used == sizeof report.bytes)
            flush_report();
        report.bytes[report.used++] = bytes[i];
    }
}

static void say(const char *text)
{
    say_bytes(text, (u32)strlen(text));
}

static void say_number(u64 number)
{
    char digits[20];
    u32 at = sizeof digits;
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    say_bytes(digits + at, sizeof digits - at);
}

static const char *errno_name(u32 code)
{
    static const char *const names[] = {
        "success", "2big", "acces", "addrinuse", "addrnotavail", "afnosupport", "again", "already", "badf", "badmsg",
        "busy", "canceled", "child", "connaborted", "connrefused", "connreset", "deadlk", "destaddrreq", "dom",
        "dquot", "exist", "fault", "fbig", "hostunreach", "idrm", "ilseq", "inprogress", "intr", "inval", "io",
        "isconn", "isdir", "loop", "mfile", "mlink", "msgsize", "multihop", "nametoolong", "netdown", "netreset",
        "netunreach", "nfile", "nobufs", "nodev", "noent", "noexec", "nolck", "nolink", "nomem", "nomsg",
        "noprotoopt", "nospc", "nosys", "notconn", "notdir", "notempty", "notrecoverable", "notsock", "notsup",
        "notty", "nxio", "overflow", "ownerdead", "perm", "pipe", "proto", "protonosupport", "prototype", "range",
        "rofs", "spipe", "srch", "stale", "timedout", "txtbsy", "xdev", "notcapable",
    };
    return code < sizeof names / sizeof *names ? names[code] : NULL;
}

static void say_errno(u32 code)
{
    if (errno_name(code) != NULL)
        say(errno_name(code));
    else
        say_number(code);
}

static void say_failure(const char *name)
{
    failures++;
    say("FAIL ");
    say(name);
    say(": got ");
}

static void say_ok(const char *name)
{
    say("ok ");
    say(name);
    say("\n");
}

/* The errno that a call gave. */
UNUSED static void expect(const char *name, u32 got, u32 expected)
{
    if (got == expected) {
        say_ok(name);
        return;
    }
    say_failure(name);
    say_errno(got);
    say(", expected ");
    say_errno(expected);
    say("\n");
}

UNUSED static void expect_number(const char *name, u64 got, u64 expected)
{
    if (got == expected) {
        say_ok(name);
        return;
    }
    say_failure(name);
    say_number(got);
    say(", expected ");
    say_number(expected);
    say("\n");
}

UNUSED static void expect_true(const char *name, int truth)
{
    if (truth) {
        say_ok(name);
        return;
    }
    say_failure(name);
    say("false, expected true\n");
}

UNUSED static void expect_bytes(const char *name, const void *got, u32 got_length, const char *expected)
{
    if (got_length == strlen(expected) && memcmp(got, expected, got_length) == 0) {
        say_ok(name);
        return;
    }
    say_failure(name);
    say("\"");
    say_bytes(got, got_length);
    say("\", expected \"");
    say(expected);
    say("\"\n");
}

/* A step that later checks rest on: silent if it works. */
UNUSED static void need(const char *name, u32 got)
{
    if (got == 0)
        return;
    say_failure(name);
    say_errno(got);
    say(", expected success\n");
}

static int finish(void)
{
    flush_report();
    return failures == 0 ? 0 : 1;
}

/* ---- calls with C strings and single buffers ---- */

enum {
    CREATE = __WASI_OFLAGS_CREAT,
    DIRECTORY = __WASI_OFLAGS_DIRECTORY,
    EXCLUSIVE = __WASI_OFLAGS_EXCL,
    TRUNCATE = __WASI_OFLAGS_TRUNC,
    FOLLOW = __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW,
};

#define READ __WASI_RIGHTS_FD_READ
#define WRITE __WASI_RIGHTS_FD_WRITE

#define PATH(text) P(text), (u32)strlen(text)

UNUSED static u32 open_with(u32 dir, u32 lookup, const char *path, u32 oflags, u64 rights, u32 fdflags, u32 *fd)
{
    *fd = UINT32_MAX;
    return raw_path_open(dir, lookup, PATH(path), oflags, rights, rights, fdflags, P(fd));
}

UNUSED static u32 open_at(u32 dir, const char *path, u32 oflags, u64 rights, u32 *fd)
{
    return open_with(dir, 0, path, oflags, rights, 0, fd);
}

/* For checks that only want the errno: what was opened is closed again. */
UNUSED static u32 try_open(u32 dir, u32 lookup, const char *path, u32 oflags, u64 rights)
{
    u32 fd;
    u32 code = open_with(dir, lookup, path, oflags, rights, 0, &fd);
    if (code == 0)
        need("close what was opened", raw_fd_close(fd));
    return code;
}

UNUSED static u32 read_fd(u32 fd, void *buffer, u32 length, u32 *got)
{
    __wasi_iovec_t part = {buffer, length};
    *got = 0;
    return raw_fd_read(fd, P(&part), 1, P(got));
}

UNUSED static u32 write_fd(u32 fd, const void *bytes, u32 length, u32 *done)
{
    __wasi_ciovec_t part = {bytes, length};
    *done = 0;
    return raw_fd_write(fd, P(&part), 1, P(done));
}

UNUSED static u32 pread_fd(u32 fd, void *buffer, u32 length, u64 offset, u32 *got)
{
    __wasi_iovec_t part = {buffer, length};
    *got = 0;
    return raw_fd_pread(fd, P(&part), 1, offset, P(got));
}

UNUSED static u32 pwrite_fd(u32 fd, const void *bytes, u32 length, u64 offset, u32 *done)
{
    __wasi_ciovec_t part = {bytes, length};
    *done = 0;
    return raw_fd_pwrite(fd, P(&part), 1, offset, P(done));
}

UNUSED static u32 seek(u32 fd, int64_t offset, u32 whence, u64 *position)
{
    *position = UINT64_MAX;
    return raw_fd_seek(fd, (u64)offset, whence, P(position));
}

UNUSED static u32 stat_at(u32 dir, u32 lookup, const char *path, __wasi_filestat_t *stat)
{
    memset(stat, 0xff, sizeof *stat);
    return raw_path_filestat_get(dir, lookup, PATH(path), P(stat));
}

UNUSED static u32 make_dir(u32 dir, const char *path)
{
    return raw_path_create_directory(dir, PATH(path));
}

UNUSED static u32 remove_dir(u32 dir, const char *path)
{
    return raw_path_remove_directory(dir, PATH(path));
}

UNUSED static u32 unlink_at(u32 dir, const char *path)
{
    return raw_path_unlink_file(dir, PATH(path));
}

UNUSED static u32 symlink_at(const char *target, u32 dir, const char *path)
{
    return raw_path_symlink(PATH(target), dir, PATH(path));
}

UNUSED static u32 link_at(u32 from, const char *path, u32 to, const char *new_path)
{
    return raw_path_link(from, 0, PATH(path), to, PATH(new_path));
}

UNUSED static u32 rename_at(u32 from, const char *path, u32 to, const char *new_path)
{
    return raw_path_rename(from, PATH(path), to, PATH(new_path));
}

UNUSED static u32 readlink_at(u32 dir, const char *path, void *buffer, u32 length, u32 *got)
{
    *got = 0;
    return raw_path_readlink(dir, PATH(path), P(buffer), length, P(got));
}

/* Makes or replaces a whole small file. */
UNUSED static void put_file(u32 dir, const char *path, const char *content)
{
    u32 fd, done;
    need(path, open_at(dir, path, CREATE | TRUNCATE, READ | WRITE, &fd));
    need(path, write_fd(fd, content, (u32)strlen(content), &done));
    need(path, raw_fd_close(fd));
}

UNUSED static void expect_file(const char *name, u32 dir, const char *path, const char *content)
{
    u32 fd, got = 0;
    char bytes[512];
    u32 code = open_at(dir, path, 0, READ, &fd);
    if (code == 0) {
        code = read_fd(fd, bytes, sizeof bytes, &got);
        raw_fd_close(fd);
    }
    if (code != 0)
        expect(name, code, 0);
    else
        expect_bytes(name, bytes, got, content);
}

#endif
