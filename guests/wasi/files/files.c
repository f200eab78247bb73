/* Files: how they are opened, read, written, positioned, sized, timed and closed. */
#include "../check.h"

enum { DATA = FIRST_GRANT, FRESH_PREFIX_MAX = 64 };

#define SECOND_NS UINT64_C(1000000000)

static void check_grant(void)
{
    char name[FRESH_PREFIX_MAX];
    __wasi_prestat_t prestat;
    expect("fd_prestat_get", raw_fd_prestat_get(DATA, P(&prestat)), 0);
    expect_number("it is a directory", prestat.tag, __WASI_PREOPENTYPE_DIR);
    u32 length = prestat.u.dir.pr_name_len;
    expect("fd_prestat_dir_name", raw_fd_prestat_dir_name(DATA, P(name), length), 0);
    expect_bytes("it has the name that it was given", name, length, "/data");
    expect("a name into too small a buffer", raw_fd_prestat_dir_name(DATA, P(name), length - 1),
           __WASI_ERRNO_NAMETOOLONG);
    expect("there is no second folder", raw_fd_prestat_get(DATA + 1, P(&prestat)), __WASI_ERRNO_BADF);
    __wasi_fdstat_t fdstat;
    expect("fd_fdstat_get of the folder", raw_fd_fdstat_get(DATA, P(&fdstat)), 0);
    expect_number("it says that it is a directory", fdstat.fs_filetype, __WASI_FILETYPE_DIRECTORY);
}

static void check_opening(void)
{
    u32 fd;
    expect("open what is not there", try_open(DATA, 0, "new", 0, READ), __WASI_ERRNO_NOENT);
    expect("truncate what is not there", try_open(DATA, 0, "new", TRUNCATE, WRITE), __WASI_ERRNO_NOENT);
    expect("exclusive without create", try_open(DATA, 0, "new", EXCLUSIVE, READ), __WASI_ERRNO_NOENT);
    expect("create", try_open(DATA, 0, "new", CREATE, READ | WRITE), 0);
    expect("create what is there", try_open(DATA, 0, "new", CREATE, READ | WRITE), 0);
    expect("create exclusively what is there", try_open(DATA, 0, "new", CREATE | EXCLUSIVE, WRITE), __WASI_ERRNO_EXIST);
    expect("create exclusively", try_open(DATA, 0, "new2", CREATE | EXCLUSIVE, WRITE), 0);
    expect("create in what is not there", try_open(DATA, 0, "no/file", CREATE, WRITE), __WASI_ERRNO_NOENT);
    expect("open a file as a directory", try_open(DATA, 0, "new", DIRECTORY, READ), __WASI_ERRNO_NOTDIR);
    expect("open below a file", try_open(DATA, 0, "new/x", 0, READ), __WASI_ERRNO_NOTDIR);
    expect("open a file with a slash behind it", try_open(DATA, 0, "new/", 0, READ), __WASI_ERRNO_NOTDIR);
    expect("create a directory by opening it", try_open(DATA, 0, "dir", CREATE | DIRECTORY, READ), __WASI_ERRNO_INVAL);
    expect("open with no name", try_open(DATA, 0, "", 0, READ), __WASI_ERRNO_NOENT);
    expect("open on no descriptor", try_open(77, 0, "new", 0, READ), __WASI_ERRNO_BADF);
    need("open a file", open_at(DATA, "new", 0, READ, &fd));
    expect("open on a file", try_open(fd, 0, "new", 0, READ), __WASI_ERRNO_NOTDIR);
    need("close it", raw_fd_close(fd));
    for (u32 flag = __WASI_FDFLAGS_DSYNC; flag <= __WASI_FDFLAGS_SYNC; flag <<= 1) {
        u32 code = open_with(DATA, 0, "new", 0, WRITE, flag, &fd);
        int is_sync = flag != __WASI_FDFLAGS_NONBLOCK;
        expect(is_sync ? "synchronous files are refused" : "a file that does not block is opened", code,
               is_sync ? __WASI_ERRNO_NOTSUP : __WASI_ERRNO_SUCCESS);
        if (code == 0)
            need("close it", raw_fd_close(fd));
    }
    put_file(DATA, "full", "content");
    expect("truncate", try_open(DATA, 0, "full", TRUNCATE, WRITE), 0);
    expect_file("a truncated file is empty", DATA, "full", "");
}

static void check_rights(void)
{
    u32 fd, got;
    char byte;
    put_file(DATA, "rights", "abc");
    need("open for reading", open_at(DATA, "rights", 0, READ, &fd));
    expect("write what is open for reading", write_fd(fd, "x", 1, &got), __WASI_ERRNO_BADF);
    expect("write there at an offset", pwrite_fd(fd, "x", 1, 0, &got), __WASI_ERRNO_BADF);
    expect("resize what is open for reading", raw_fd_filestat_set_size(fd, 0), __WASI_ERRNO_INVAL);
    __wasi_fdstat_t fdstat;
    need("look at it", raw_fd_fdstat_get(fd, P(&fdstat)));
    expect_true("it may be read only", (fdstat.fs_rights_base & (READ | WRITE)) == READ);
    expect_number("it is a file", fdstat.fs_filetype, __WASI_FILETYPE_REGULAR_FILE);
    need("close it", raw_fd_close(fd));
    need("open for writing", open_at(DATA, "rights", 0, WRITE, &fd));
    expect("read what is open for writing", read_fd(fd, &byte, 1, &got), __WASI_ERRNO_BADF);
    expect("read there at an offset", pread_fd(fd, &byte, 1, 0, &got), __WASI_ERRNO_BADF);
    expect("read nothing there", read_fd(fd, &byte, 0, &got), __WASI_ERRNO_BADF);
    expect("fd_fdstat_set_rights", raw_fd_fdstat_set_rights(fd, 0, 0), __WASI_ERRNO_NOTSUP);
    need("close it", raw_fd_close(fd));
    expect_file("nothing of that changed the file", DATA, "rights", "abc");
}

static void check_reading_and_writing(void)
{
    u32 fd, got;
    u64 position;
    char bytes[64];
    need("open", open_at(DATA, "rw", CREATE | TRUNCATE, READ | WRITE, &fd));
    expect("write", write_fd(fd, "0123456789", 10, &got), 0);
    expect_number("all of it", got, 10);
    expect("tell", raw_fd_tell(fd, P(&position)), 0);
    expect_number("a write moves the position", position, 10);
    expect("read at the end", read_fd(fd, bytes, sizeof bytes, &got), 0);
    expect_number("gets nothing", got, 0);
    expect("seek to the start", seek(fd, 0, __WASI_WHENCE_SET, &position), 0);
    expect("read nothing", read_fd(fd, bytes, 0, &got), 0);
    expect("read three", read_fd(fd, bytes, 3, &got), 0);
    expect_bytes("the first three", bytes, got, "012");
    expect("read with an offset", pread_fd(fd, bytes, 2, 8, &got), 0);
    expect_bytes("the last two", bytes, got, "89");
    expect("read with an offset past the end", pread_fd(fd, bytes, 2, 10, &got), 0);
    expect_number("gets nothing", got, 0);
    expect("read nothing with an offset", pread_fd(fd, bytes, 0, 0, &got), 0);
    expect("tell", raw_fd_tell(fd, P(&position)), 0);
    expect_number("an offset leaves the position alone", position, 3);
    expect("write with an offset", pwrite_fd(fd, "AB", 2, 0, &got), 0);
    expect("write nothing", write_fd(fd, "x", 0, &got), 0);
    expect("read the rest", read_fd(fd, bytes, sizeof bytes, &got), 0);
    expect_bytes("the rest", bytes, got, "3456789");
    expect("write with an offset past the end", pwrite_fd(fd, "Z", 1, 12, &got), 0);
    expect("read the gap", pread_fd(fd, bytes, 3, 10, &got), 0);
    expect_true("a gap reads as zeros", got == 3 && memcmp(bytes, "\0\0Z", 3) == 0);
    __wasi_ciovec_t out[3] = {{(const uint8_t *)"", 0}, {(const uint8_t *)"vec", 3}, {(const uint8_t *)"tor", 3}};
    need("seek", seek(fd, 0, __WASI_WHENCE_SET, &position));
    expect("write a vector", raw_fd_write(fd, P(out), 3, P(&got)), 0);
    expect_true("a vector may be written in part, but from its start", got >= 3 && got <= 6);
    expect("read a byte", pread_fd(fd, bytes, 3, 0, &got), 0);
    expect_bytes("the vector's start", bytes, got, "vec");
    uint8_t one[1], two[2];
    __wasi_iovec_t in[3] = {{one, 0}, {one, 1}, {two, 2}};
    need("seek", seek(fd, 0, __WASI_WHENCE_SET, &position));
    expect("read into a vector", raw_fd_read(fd, P(in), 3, P(&got)), 0);
    expect_true("it fills buffers in order", got >= 1 && one[0] == 'v' && (got < 2 || two[0] == 'e'));
    need("close", raw_fd_close(fd));
}

static void check_seeking(void)
{
    u32 fd, got;
    u64 position;
    put_file(DATA, "seek", "0123456789");
    need("open", open_at(DATA, "seek", 0, READ | WRITE, &fd));
    expect("from the end", seek(fd, -3, __WASI_WHENCE_END, &position), 0);
    expect_number("is there", position, 7);
    expect("from here", seek(fd, -2, __WASI_WHENCE_CUR, &position), 0);
    expect_number("is there", position, 5);
    expect("before the start", seek(fd, -6, __WASI_WHENCE_CUR, &position), __WASI_ERRNO_INVAL);
    expect("a negative position", seek(fd, -1, __WASI_WHENCE_SET, &position), __WASI_ERRNO_INVAL);
    expect("before the start, from the end", seek(fd, -11, __WASI_WHENCE_END, &position), __WASI_ERRNO_INVAL);
    expect("an unknown origin", seek(fd, 0, 3, &position), __WASI_ERRNO_INVAL);
    expect("tell", raw_fd_tell(fd, P(&position)), 0);
    expect_number("what failed did not move", position, 5);
    expect("far past the end", seek(fd, INT64_C(1) << 40, __WASI_WHENCE_SET, &position), 0);
    expect("read there", read_fd(fd, &got, 1, &got), 0);
    expect_number("gets nothing", got, 0);
    expect("the largest position", seek(fd, INT64_MAX, __WASI_WHENCE_SET, &position), 0);
    u32 code = write_fd(fd, "x", 1, &got);
    expect_true("write there", code == __WASI_ERRNO_FBIG || code == __WASI_ERRNO_INVAL);
    expect("past it", seek(fd, 1, __WASI_WHENCE_CUR, &position), 0);
    expect("read past it", read_fd(fd, &got, 1, &got), __WASI_ERRNO_INVAL);
    expect("write past it", write_fd(fd, "x", 1, &got), __WASI_ERRNO_INVAL);
    expect("an offset past it", pread_fd(fd, &got, 1, UINT64_MAX, &got), __WASI_ERRNO_INVAL);
    expect("an offset past it, writing", pwrite_fd(fd, "x", 1, UINT64_MAX, &got), __WASI_ERRNO_INVAL);
    expect("tell a closed file", raw_fd_close(fd), 0);
    expect("closed", raw_fd_tell(fd, P(&position)), __WASI_ERRNO_BADF);
    expect("tell a folder", raw_fd_tell(DATA, P(&position)), __WASI_ERRNO_BADF);
    expect("seek a folder", seek(DATA, 0, __WASI_WHENCE_SET, &position), __WASI_ERRNO_BADF);
    expect_file("nothing of that changed the file", DATA, "seek", "0123456789");
}

static void check_appending(void)
{
    u32 fd, got;
    u64 position;
    __wasi_fdstat_t fdstat;
    put_file(DATA, "log", "one,");
    need("open", open_with(DATA, 0, "log", 0, READ | WRITE, __WASI_FDFLAGS_APPEND, &fd));
    need("look", raw_fd_fdstat_get(fd, P(&fdstat)));
    expect_number("it says that it appends", fdstat.fs_flags, __WASI_FDFLAGS_APPEND);
    expect("append", write_fd(fd, "two,", 4, &got), 0);
    expect("seek to the start", seek(fd, 0, __WASI_WHENCE_SET, &position), 0);
    expect("append all the same", write_fd(fd, "three,", 6, &got), 0);
    expect("tell", raw_fd_tell(fd, P(&position)), 0);
    expect_number("the position is the end", position, 14);
    expect("stop appending", raw_fd_fdstat_set_flags(fd, 0), 0);
    need("seek", seek(fd, 0, __WASI_WHENCE_SET, &position));
    expect("overwrite", write_fd(fd, "ONE", 3, &got), 0);
    expect("append again", raw_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND), 0);
    expect("at the end", write_fd(fd, "four", 4, &got), 0);
    expect_file("all of it", DATA, "log", "ONE,two,three,four");
    expect("become synchronous", raw_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_SYNC), __WASI_ERRNO_INVAL);
    expect("set unknown flags", raw_fd_fdstat_set_flags(fd, 0x8000), __WASI_ERRNO_INVAL);
    expect("set a folder's flags", raw_fd_fdstat_set_flags(DATA, 0), __WASI_ERRNO_BADF);
    need("close", raw_fd_close(fd));
}

static void check_sizes(void)
{
    u32 fd, got;
    char bytes[16];
    __wasi_filestat_t stat;
    put_file(DATA, "size", "0123456789");
    need("open", open_at(DATA, "size", 0, READ | WRITE, &fd));
    expect("shrink", raw_fd_filestat_set_size(fd, 4), 0);
    expect("grow", raw_fd_filestat_set_size(fd, 6), 0);
    expect("read it", pread_fd(fd, bytes, sizeof bytes, 0, &got), 0);
    expect_true("what grew is zero", got == 6 && memcmp(bytes, "0123\0\0", 6) == 0);
    expect("a size that cannot be", raw_fd_filestat_set_size(fd, UINT64_MAX), __WASI_ERRNO_INVAL);
    expect("fd_filestat_get", raw_fd_filestat_get(fd, P(&stat)), 0);
    expect_number("the size", stat.size, 6);
    expect_number("the links", stat.nlink, 1);
    expect_number("the kind", stat.filetype, __WASI_FILETYPE_REGULAR_FILE);
    __wasi_filestat_t by_path;
    expect("path_filestat_get", stat_at(DATA, 0, "size", &by_path), 0);
    expect_true("both say the same", by_path.ino == stat.ino && by_path.dev == stat.dev && by_path.size == 6);
    expect("fd_allocate", raw_fd_allocate(fd, 0, 100), __WASI_ERRNO_NOTSUP);
    expect("fd_allocate of a folder", raw_fd_allocate(DATA, 0, 100), __WASI_ERRNO_BADF);
    expect("resize a folder", raw_fd_filestat_set_size(DATA, 0), __WASI_ERRNO_BADF);
    for (u32 advice = __WASI_ADVICE_NORMAL; advice <= __WASI_ADVICE_NOREUSE; advice++)
        need("fd_advise", raw_fd_advise(fd, 0, 4, advice));
    expect("unknown advice", raw_fd_advise(fd, 0, 4, 6), __WASI_ERRNO_INVAL);
    expect("advice on all of it", raw_fd_advise(fd, 0, 0, __WASI_ADVICE_WILLNEED), 0);
    expect("advice on more than can be", raw_fd_advise(fd, 0, UINT64_MAX, __WASI_ADVICE_NORMAL), __WASI_ERRNO_INVAL);
    expect("advice on a folder", raw_fd_advise(DATA, 0, 0, __WASI_ADVICE_NORMAL), __WASI_ERRNO_BADF);
    expect("fd_sync", raw_fd_sync(fd), 0);
    expect("fd_datasync", raw_fd_datasync(fd), 0);
    expect("fd_sync of a folder", raw_fd_sync(DATA), __WASI_ERRNO_BADF);
    expect("fd_datasync of a folder", raw_fd_datasync(DATA), __WASI_ERRNO_BADF);
    need("close", raw_fd_close(fd));
}

static void check_times(void)
{
    const u32 BOTH = __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM;
    u32 fd;
    u64 now;
    __wasi_filestat_t stat;
    put_file(DATA, "times", "");
    need("open", open_at(DATA, "times", 0, READ | WRITE, &fd));
    expect("set both", raw_fd_filestat_set_times(fd, 1000 * SECOND_NS + 7, 2000 * SECOND_NS + 9, BOTH), 0);
    need("look", raw_fd_filestat_get(fd, P(&stat)));
    expect_number("accessed", stat.atim, 1000 * SECOND_NS + 7);
    expect_number("modified", stat.mtim, 2000 * SECOND_NS + 9);
    expect("set one", raw_fd_filestat_set_times(fd, 5, 3000 * SECOND_NS, __WASI_FSTFLAGS_MTIM), 0);
    need("look", raw_fd_filestat_get(fd, P(&stat)));
    expect_true("only that one", stat.atim == 1000 * SECOND_NS + 7 && stat.mtim == 3000 * SECOND_NS);
    expect("set none", raw_fd_filestat_set_times(fd, 5, 5, 0), 0);
    need("clock", raw_clock_time_get(__WASI_CLOCKID_REALTIME, 0, P(&now)));
    expect("set to now", raw_fd_filestat_set_times(fd, 5, 5, __WASI_FSTFLAGS_MTIM_NOW), 0);
    need("look", raw_fd_filestat_get(fd, P(&stat)));
    /* A file system may keep time more coarsely than the clock does. */
    expect_true("it is now", stat.mtim + SECOND_NS > now && stat.atim == 1000 * SECOND_NS + 7);
    expect("a time and now", raw_fd_filestat_set_times(fd, 5, 5, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_ATIM_NOW),
           __WASI_ERRNO_INVAL);
    expect("unknown flags", raw_fd_filestat_set_times(fd, 5, 5, 0x100), __WASI_ERRNO_INVAL);
    need("close", raw_fd_close(fd));
    expect("by path", raw_path_filestat_set_times(DATA, 0, PATH("times"), 4000 * SECOND_NS, 5000 * SECOND_NS, BOTH), 0);
    need("look", stat_at(DATA, 0, "times", &stat));
    expect_true("both", stat.atim == 4000 * SECOND_NS && stat.mtim == 5000 * SECOND_NS);
    expect("by path, following", raw_path_filestat_set_times(DATA, FOLLOW, PATH("times"), SECOND_NS, SECOND_NS, BOTH), 0);
    need("look", stat_at(DATA, FOLLOW, "times", &stat));
    expect_true("both", stat.atim == SECOND_NS && stat.mtim == SECOND_NS);
    expect("of what is not there", raw_path_filestat_set_times(DATA, 0, PATH("no"), 0, 0, BOTH), __WASI_ERRNO_NOENT);
    expect("a time and now, by path",
           raw_path_filestat_set_times(DATA, 0, PATH("times"), 5, 5, __WASI_FSTFLAGS_MTIM | __WASI_FSTFLAGS_MTIM_NOW),
           __WASI_ERRNO_INVAL);
}

static void check_folder_times(void)
{
    u32 dir;
    __wasi_filestat_t stat;
    need("make", make_dir(DATA, "dir"));
    need("open", open_at(DATA, "dir", DIRECTORY, READ, &dir));
    expect("of an opened directory", raw_fd_filestat_set_times(dir, 0, 6 * SECOND_NS, __WASI_FSTFLAGS_MTIM), 0);
    need("look", raw_fd_filestat_get(dir, P(&stat)));
    expect_number("it is modified", stat.mtim, 6 * SECOND_NS);
    need("close", raw_fd_close(dir));
    expect("of the folder, by its descriptor", raw_fd_filestat_set_times(DATA, 0, 7 * SECOND_NS, __WASI_FSTFLAGS_MTIM),
           __WASI_ERRNO_BADF);
    expect("of the folder, by path",
           raw_path_filestat_set_times(DATA, 0, PATH("."), 0, 7 * SECOND_NS, __WASI_FSTFLAGS_MTIM), 0);
    need("look", raw_fd_filestat_get(DATA, P(&stat)));
    expect_number("it is modified", stat.mtim, 7 * SECOND_NS);
}

static void check_descriptors(void)
{
    u32 first, second, third, got;
    char bytes[8];
    put_file(DATA, "first", "first");
    put_file(DATA, "second", "second");
    need("open", open_at(DATA, "first", 0, READ, &first));
    need("open", open_at(DATA, "second", 0, READ, &second));
    expect_true("two files have two numbers", first != second);
    expect("renumber", raw_fd_renumber(first, second), 0);
    expect("the old number is free", read_fd(first, bytes, 1, &got), __WASI_ERRNO_BADF);
    expect("the new one is read", read_fd(second, bytes, sizeof bytes, &got), 0);
    expect_bytes("as the first file", bytes, got, "first");
    expect("renumber to what was never open", raw_fd_renumber(second, 1000), __WASI_ERRNO_BADF);
    need("open", open_at(DATA, "second", 0, READ, &third));
    expect_number("a free number is used again", third, first);
    expect("close", raw_fd_close(third), 0);
    expect("close twice", raw_fd_close(third), __WASI_ERRNO_BADF);
    expect("an unlinked file stays open", unlink_at(DATA, "first"), 0);
    expect("and is read", pread_fd(second, bytes, sizeof bytes, 0, &got), 0);
    expect_bytes("to its end", bytes, got, "first");
    need("close", raw_fd_close(second));
    expect("then it is gone", try_open(DATA, 0, "first", 0, READ), __WASI_ERRNO_NOENT);
    need("open", open_at(DATA, "second", 0, READ, &first));
    expect("a folder may be closed", raw_fd_close(DATA), 0);
    expect("then nothing is opened in it", try_open(DATA, 0, "second", 0, READ), __WASI_ERRNO_BADF);
    expect("files from it stay open", read_fd(first, bytes, sizeof bytes, &got), 0);
    expect("a file takes its number", raw_fd_renumber(first, DATA), __WASI_ERRNO_BADF);
}

int main(void)
{
    check_grant();
    check_opening();
    check_rights();
    check_reading_and_writing();
    check_seeking();
    check_appending();
    check_sizes();
    check_times();
    check_folder_times();
    check_descriptors();
    return finish();
}
