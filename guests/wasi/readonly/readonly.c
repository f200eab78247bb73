/* A folder granted for reading: all that would change it is refused. The test compares it afterwards. */
#include "../check.h"

enum { DATA = FIRST_GRANT, WRITABLE = FIRST_GRANT + 1 };

static void check_reading(void)
{
    char bytes[64];
    u32 dir, got;
    __wasi_filestat_t stat;
    expect_file("a file", DATA, "file", "content\n");
    expect_file("a file below", DATA, "dir/inner", "inner\n");
    expect_file("a file through a link", DATA, "way/inner", "inner\n");
    expect("look", stat_at(DATA, 0, "file", &stat), 0);
    expect("readlink", readlink_at(DATA, "way", bytes, sizeof bytes, &got), 0);
    expect_bytes("the target", bytes, got, "dir");
    expect("open a directory", open_at(DATA, "dir", DIRECTORY, READ, &dir), 0);
    expect("list it", raw_fd_readdir(dir, P(bytes), sizeof bytes, 0, P(&got)), 0);
    need("close", raw_fd_close(dir));
}

static void check_opening(void)
{
    static const struct {
        const char *name;
        u32 oflags;
        u64 rights;
    } ways[] = {
        {"open for writing", 0, WRITE},
        {"open for both", 0, READ | WRITE},
        {"truncate", TRUNCATE, READ},
        {"truncate for writing", TRUNCATE, WRITE},
        {"create what is there", CREATE, READ},
        {"create exclusively", CREATE | EXCLUSIVE, WRITE},
        {"create and truncate", CREATE | TRUNCATE, READ | WRITE},
    };
    for (u32 i = 0; i < sizeof ways / sizeof *ways; i++) {
        expect(ways[i].name, try_open(DATA, 0, "file", ways[i].oflags, ways[i].rights), __WASI_ERRNO_PERM);
        expect("in a directory", try_open(DATA, 0, "dir/inner", ways[i].oflags, ways[i].rights), __WASI_ERRNO_PERM);
        expect("through a link", try_open(DATA, FOLLOW, "way/inner", ways[i].oflags, ways[i].rights), __WASI_ERRNO_PERM);
        expect("a new one", try_open(DATA, FOLLOW, "new", ways[i].oflags, ways[i].rights), __WASI_ERRNO_PERM);
    }
    expect("what is not there, for reading", try_open(DATA, 0, "new", 0, READ), __WASI_ERRNO_NOENT);
}

static void check_paths_from(const char *what, u32 dir, const char *file, const char *empty)
{
    say("# ");
    say(what);
    say("\n");
    expect("make a directory", make_dir(dir, "new"), __WASI_ERRNO_PERM);
    expect("remove a directory", remove_dir(dir, empty), __WASI_ERRNO_PERM);
    expect("unlink", unlink_at(dir, file), __WASI_ERRNO_PERM);
    expect("rename within", rename_at(dir, file, dir, "new"), __WASI_ERRNO_PERM);
    expect("rename out", rename_at(dir, file, WRITABLE, "new"), __WASI_ERRNO_PERM);
    expect("rename in", rename_at(WRITABLE, "thing", dir, "new"), __WASI_ERRNO_PERM);
    expect("link within", link_at(dir, file, dir, "new"), __WASI_ERRNO_PERM);
    /* A second name in a folder that may be written would make the file itself writable. */
    expect("link out", link_at(dir, file, WRITABLE, "new"), __WASI_ERRNO_PERM);
    expect("link in", link_at(WRITABLE, "thing", dir, "new"), __WASI_ERRNO_PERM);
    expect("symlink", symlink_at("target", dir, "new"), __WASI_ERRNO_PERM);
    expect("set times", raw_path_filestat_set_times(dir, 0, PATH(file), 0, 0, __WASI_FSTFLAGS_MTIM_NOW),
           __WASI_ERRNO_PERM);
    expect("set times, following",
           raw_path_filestat_set_times(dir, FOLLOW, PATH(file), 0, 0, __WASI_FSTFLAGS_ATIM_NOW), __WASI_ERRNO_PERM);
}

static void check_descriptor(const char *what, u32 fd, int is_file)
{
    u32 done;
    const u32 refused = is_file ? __WASI_ERRNO_PERM : __WASI_ERRNO_BADF;
    say("# ");
    say(what);
    say("\n");
    expect("write", write_fd(fd, "x", 1, &done), __WASI_ERRNO_BADF);
    expect("write with an offset", pwrite_fd(fd, "x", 1, 0, &done), __WASI_ERRNO_BADF);
    expect("set the size", raw_fd_filestat_set_size(fd, 0), refused);
    expect("set the times", raw_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_MTIM_NOW), __WASI_ERRNO_PERM);
    expect("allocate", raw_fd_allocate(fd, 0, 1 << 20), is_file ? __WASI_ERRNO_NOTSUP : __WASI_ERRNO_BADF);
    if (!is_file)
        return;
    expect("appending is a flag of the descriptor", raw_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND), 0);
    expect("append", write_fd(fd, "x", 1, &done), __WASI_ERRNO_BADF);
    expect("sync", raw_fd_sync(fd), 0);
}

int main(void)
{
    u32 dir, file;
    check_reading();
    check_opening();
    need("open", open_at(DATA, "dir", DIRECTORY, READ, &dir));
    need("open", open_at(DATA, "file", 0, READ, &file));
    check_paths_from("in the folder", DATA, "file", "empty");
    check_paths_from("in a directory opened below it", dir, "inner", "void");
    check_descriptor("a file", file, 1);
    check_descriptor("a directory", dir, 0);
    check_descriptor("the folder itself", DATA, 0);
    say("# a directory opened by a link out of a folder that may be written\n");
    expect("links do not lead from one folder to another", try_open(WRITABLE, FOLLOW, "to-data", DIRECTORY, READ),
           __WASI_ERRNO_PERM);
    expect_file("the other folder is as it was", WRITABLE, "thing", "thing\n");
    return finish();
}
