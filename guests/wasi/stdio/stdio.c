/* Standard streams: short reads, end of file, vectors, empty lengths, and descriptors closed or moved away. */
#include "../check.h"

enum { INPUT_BYTES = 20000 };

/* The n-th byte of input/numbered.bin. */
static uint8_t input_byte(u32 n)
{
    return (uint8_t)(n * 7 + n / 256);
}

static int is_input(const uint8_t *bytes, u32 from, u32 count)
{
    for (u32 i = 0; i < count; i++)
        if (bytes[i] != input_byte(from + i))
            return 0;
    return 1;
}

static void check_reading(void)
{
    static uint8_t bytes[4096];
    u32 got, position = 0;
    expect("a read of nothing", read_fd(0, bytes, 0, &got), 0);
    expect_number("a read of nothing gets nothing", got, 0);
    expect("a read into no buffers", raw_fd_read(0, P(bytes), 0, P(&got)), 0);
    expect("a short read", read_fd(0, bytes, 3, &got), 0);
    expect_true("a short read gets the first bytes", got >= 1 && got <= 3 && is_input(bytes, position, got));
    position += got;
    /* A read may fill fewer buffers than it was given, but none out of order. */
    __wasi_iovec_t parts[3] = {{bytes, 0}, {bytes, 5}, {bytes + 5, 7}};
    expect("a read into several buffers", raw_fd_read(0, P(parts), 3, P(&got)), 0);
    expect_true("a read skips an empty buffer", got >= 1 && got <= 12 && is_input(bytes, position, got));
    position += got;
    int in_order = 1;
    for (;;) {
        need("read on", read_fd(0, bytes, sizeof bytes, &got));
        if (got == 0)
            break;
        in_order &= is_input(bytes, position, got);
        position += got;
    }
    expect_true("everything is read in order", in_order);
    expect_number("everything is read", position, INPUT_BYTES);
    expect("a read after the end", read_fd(0, bytes, sizeof bytes, &got), 0);
    expect_number("there is nothing after the end", got, 0);
}

/* Writes a vector whole, taking up partial writes where they ended. */
static void write_vector(__wasi_ciovec_t *parts, u32 count)
{
    while (count > 0) {
        u32 done;
        u32 code = raw_fd_write(report_fd, P(parts), count, P(&done));
        if (code != 0) {
            need("write a vector", code);
            return;
        }
        while (count > 0 && done >= parts->buf_len) {
            done -= parts->buf_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->buf += done;
            parts->buf_len -= done;
        }
    }
}

static void check_writing(void)
{
    enum { PARTS = 2000 };
    static uint8_t letters[26];
    static __wasi_ciovec_t parts[PARTS];
    u32 done;
    for (u32 i = 0; i < sizeof letters; i++)
        letters[i] = (uint8_t)('a' + i);
    expect("a write of nothing", write_fd(1, "x", 0, &done), 0);
    expect("a write of no buffers", raw_fd_write(1, P(parts), 0, P(&done)), 0);
    expect("a write of empty buffers only", raw_fd_write(1, P(parts), PARTS, P(&done)), 0);
    expect_number("empty buffers are nothing", done, 0);
    flush_report();
    for (u32 i = 0; i < PARTS; i++)
        parts[i] = (__wasi_ciovec_t){letters + i % 26, i % 50 == 49 ? 0 : 1};
    write_vector(parts, PARTS);
    say("\n");
    static uint8_t long_line[100000];
    for (u32 i = 0; i < sizeof long_line; i++)
        long_line[i] = (uint8_t)('0' + i % 10);
    flush_report();
    __wasi_ciovec_t whole = {long_line, sizeof long_line};
    write_vector(&whole, 1);
    say("\n");
    expect("nothing wrong on standard error", write_fd(2, "on standard error\n", 18, &done), 0);
    expect_number("standard error takes it whole", done, 18);
}

static void check_wrong_direction(void)
{
    uint8_t byte = 'x';
    u32 got;
    expect("a write to standard input", write_fd(0, &byte, 1, &got), __WASI_ERRNO_BADF);
    expect("a read of standard output", read_fd(1, &byte, 1, &got), __WASI_ERRNO_BADF);
    expect("a read of standard error", read_fd(2, &byte, 1, &got), __WASI_ERRNO_BADF);
    expect("an empty read of standard output", read_fd(1, &byte, 0, &got), __WASI_ERRNO_BADF);
    expect("an empty read of no descriptor", read_fd(77, &byte, 0, &got), __WASI_ERRNO_BADF);
}

static void check_no_files(void)
{
    static const char *const names[] = {"standard input", "standard output", "standard error"};
    for (u32 fd = 0; fd < 3; fd++) {
        uint8_t bytes[64];
        u64 position;
        u32 got;
        say("# ");
        say(names[fd]);
        say("\n");
        expect("fd_seek", seek(fd, 0, __WASI_WHENCE_SET, &position), __WASI_ERRNO_SPIPE);
        expect("fd_tell", raw_fd_tell(fd, P(&position)), __WASI_ERRNO_SPIPE);
        u32 code = fd == 0 ? pread_fd(fd, bytes, 1, 0, &got) : pwrite_fd(fd, "x", 1, 0, &got);
        expect("an offset", code, __WASI_ERRNO_SPIPE);
        expect("fd_advise", raw_fd_advise(fd, 0, 1, __WASI_ADVICE_NORMAL), __WASI_ERRNO_BADF);
        expect("fd_allocate", raw_fd_allocate(fd, 0, 1), __WASI_ERRNO_BADF);
        expect("fd_datasync", raw_fd_datasync(fd), __WASI_ERRNO_BADF);
        expect("fd_sync", raw_fd_sync(fd), __WASI_ERRNO_BADF);
        expect("fd_fdstat_set_flags", raw_fd_fdstat_set_flags(fd, 0), __WASI_ERRNO_BADF);
        expect("fd_fdstat_set_rights", raw_fd_fdstat_set_rights(fd, 0, 0), __WASI_ERRNO_BADF);
        expect("fd_filestat_set_size", raw_fd_filestat_set_size(fd, 0), __WASI_ERRNO_BADF);
        expect("fd_filestat_set_times", raw_fd_filestat_set_times(fd, 0, 0, 0), __WASI_ERRNO_BADF);
        expect("fd_readdir", raw_fd_readdir(fd, P(bytes), sizeof bytes, 0, P(&got)), __WASI_ERRNO_BADF);
        expect("fd_prestat_get", raw_fd_prestat_get(fd, P(bytes)), __WASI_ERRNO_BADF);
        expect("fd_prestat_dir_name", raw_fd_prestat_dir_name(fd, P(bytes), 64), __WASI_ERRNO_NOTDIR);
        expect("path_open", try_open(fd, 0, "x", 0, READ), __WASI_ERRNO_BADF);
        expect("path_create_directory", make_dir(fd, "x"), __WASI_ERRNO_BADF);
        __wasi_filestat_t stat;
        expect("fd_filestat_get", raw_fd_filestat_get(fd, P(&stat)), 0);
        expect_number("it has no size", stat.size, 0);
        expect_number("it tells nothing of its kind", stat.filetype, __WASI_FILETYPE_UNKNOWN);
        __wasi_fdstat_t fdstat;
        expect("fd_fdstat_get", raw_fd_fdstat_get(fd, P(&fdstat)), 0);
        u64 rights = fd == 0 ? READ : WRITE;
        expect_true("it may only do what it is for", (fdstat.fs_rights_base & (READ | WRITE)) == rights);
        expect_number("it has no flags", fdstat.fs_flags, 0);
    }
}

static void check_closing(void)
{
    uint8_t byte;
    u32 got;
    expect("close standard input", raw_fd_close(0), 0);
    expect("close standard input again", raw_fd_close(0), __WASI_ERRNO_BADF);
    expect("read closed standard input", read_fd(0, &byte, 1, &got), __WASI_ERRNO_BADF);
    expect("close what never was", raw_fd_close(42), __WASI_ERRNO_BADF);
    expect("close the highest number", raw_fd_close(UINT32_MAX), __WASI_ERRNO_BADF);
    expect("renumber to a closed descriptor", raw_fd_renumber(1, 0), __WASI_ERRNO_BADF);
    expect("renumber from a closed descriptor", raw_fd_renumber(0, 2), __WASI_ERRNO_BADF);
    expect("renumber to itself", raw_fd_renumber(1, 1), 0);
    flush_report();
    u32 code = raw_fd_renumber(1, 2);
    report_fd = 2;
    expect("standard output takes standard error's place", code, 0);
    expect("write where it was", write_fd(1, "x", 1, &got), __WASI_ERRNO_BADF);
}

int main(void)
{
    check_no_files();
    check_wrong_direction();
    check_reading();
    check_writing();
    check_closing();
    return finish();
}
