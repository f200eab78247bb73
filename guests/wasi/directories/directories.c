/* Directories and links: made, listed, renamed, linked, followed and removed. */
#include "../check.h"

enum { DATA = FIRST_GRANT, ENTRIES = 100, NAME_BYTES_MAX = 32 };

static void check_making(void)
{
    u32 dir, fd;
    expect("make", make_dir(DATA, "dir"), 0);
    expect("make it again", make_dir(DATA, "dir"), __WASI_ERRNO_EXIST);
    expect("make below it", make_dir(DATA, "dir/sub"), 0);
    expect("make with a slash behind", make_dir(DATA, "slash/"), 0);
    expect("make below what is not there", make_dir(DATA, "no/sub"), __WASI_ERRNO_NOENT);
    expect("make with no name", make_dir(DATA, ""), __WASI_ERRNO_NOENT);
    expect("make this", make_dir(DATA, "."), __WASI_ERRNO_EXIST);
    put_file(DATA, "file", "content");
    expect("make where a file is", make_dir(DATA, "file"), __WASI_ERRNO_EXIST);
    expect("make below a file", make_dir(DATA, "file/sub"), __WASI_ERRNO_NOTDIR);
    expect("open", open_at(DATA, "dir", DIRECTORY, READ, &dir), 0);
    expect("open below what was opened", open_at(dir, "sub", DIRECTORY, READ, &fd), 0);
    need("close", raw_fd_close(fd));
    expect("make below what was opened", make_dir(dir, "sub2"), 0);
    expect("open for writing", try_open(DATA, 0, "dir", 0, READ | WRITE), __WASI_ERRNO_ISDIR);
    __wasi_fdstat_t fdstat;
    expect("fd_fdstat_get", raw_fd_fdstat_get(dir, P(&fdstat)), 0);
    expect_number("it is a directory", fdstat.fs_filetype, __WASI_FILETYPE_DIRECTORY);
    u32 got;
    char bytes[4];
    expect("read a directory as a file", read_fd(dir, bytes, 1, &got), __WASI_ERRNO_BADF);
    expect("read nothing of it", read_fd(dir, bytes, 0, &got), __WASI_ERRNO_BADF);
    expect("write into it", write_fd(dir, "x", 1, &got), __WASI_ERRNO_BADF);
    __wasi_prestat_t prestat;
    expect("it is not one of the granted", raw_fd_prestat_get(dir, P(&prestat)), __WASI_ERRNO_BADF);
    need("close", raw_fd_close(dir));
    __wasi_filestat_t stat;
    expect("path_filestat_get", stat_at(DATA, 0, "dir", &stat), 0);
    expect_number("the kind", stat.filetype, __WASI_FILETYPE_DIRECTORY);
}

static void check_removing(void)
{
    u32 dir;
    expect("remove a full one", remove_dir(DATA, "dir"), __WASI_ERRNO_NOTEMPTY);
    expect("remove a file as a directory", remove_dir(DATA, "file"), __WASI_ERRNO_NOTDIR);
    expect("remove what is not there", remove_dir(DATA, "no"), __WASI_ERRNO_NOENT);
    expect("unlink a directory", unlink_at(DATA, "slash"), __WASI_ERRNO_ISDIR);
    expect("unlink a file with a slash behind", unlink_at(DATA, "file/"), __WASI_ERRNO_NOTDIR);
    expect("unlink what is not there", unlink_at(DATA, "no"), __WASI_ERRNO_NOENT);
    expect("remove this", remove_dir(DATA, "."), __WASI_ERRNO_INVAL);
    expect("unlink with no name", unlink_at(DATA, ""), __WASI_ERRNO_NOENT);
    need("open", open_at(DATA, "dir/sub", DIRECTORY, READ, &dir));
    expect("remove one that is open", remove_dir(DATA, "dir/sub"), 0);
    expect("make below what was removed", make_dir(dir, "x"), __WASI_ERRNO_NOENT);
    need("close", raw_fd_close(dir));
    expect("remove", remove_dir(DATA, "dir/sub2"), 0);
    expect("remove the empty one", remove_dir(DATA, "dir"), 0);
    expect("remove", remove_dir(DATA, "slash"), 0);
    expect("unlink", unlink_at(DATA, "file"), 0);
    expect("unlink again", unlink_at(DATA, "file"), __WASI_ERRNO_NOENT);
}

/* Where a listing goes on, and what it has seen. */
struct listing {
    u64 cookie;
    u32 entries;
    u32 seen[ENTRIES];
    u32 dots;
    u32 others;
};

static u32 number_of(const char *name, u32 length)
{
    if (length != 4 || name[0] != 'e')
        return ENTRIES;
    return (u32)((name[1] - '0') * 100 + (name[2] - '0') * 10 + (name[3] - '0'));
}

/* Takes the whole entries of a buffer; an entry that is cut off is read again later, from the cookie before it. */
static void take_entries(struct listing *listing, const char *buffer, u32 used)
{
    u32 at = 0;
    __wasi_dirent_t entry;
    while (at + sizeof entry <= used) {
        memcpy(&entry, buffer + at, sizeof entry);
        const char *name = buffer + at + sizeof entry;
        if (entry.d_namlen > used - at - sizeof entry)
            return;
        u32 number = number_of(name, entry.d_namlen);
        if (number < ENTRIES)
            listing->seen[number]++;
        else if (name[0] == '.')
            listing->dots++;
        else
            listing->others++;
        listing->entries++;
        listing->cookie = entry.d_next;
        at += sizeof entry + entry.d_namlen;
    }
}

static void list_with(const char *name, u32 dir, u32 buffer_bytes)
{
    static char buffer[8192];
    struct listing listing = {0};
    for (u32 calls = 0; calls < 1000; calls++) {
        u32 used = UINT32_MAX;
        need("fd_readdir", raw_fd_readdir(dir, P(buffer), buffer_bytes, listing.cookie, P(&used)));
        if (used > buffer_bytes) {
            need("fd_readdir uses more than it has", used);
            break;
        }
        u64 before = listing.cookie;
        take_entries(&listing, buffer, used);
        /* Less than the buffer's length means the end; no progress means that an entry does not fit. */
        if (used < buffer_bytes || listing.cookie == before)
            break;
    }
    u32 once = 0;
    for (u32 i = 0; i < ENTRIES; i++)
        once += listing.seen[i] == 1;
    expect_true(name, once == ENTRIES && listing.dots == 2 && listing.others == 0);
}

static void check_listing(void)
{
    u32 dir, used;
    char name[NAME_BYTES_MAX], small[64];
    need("make", make_dir(DATA, "list"));
    need("open", open_at(DATA, "list", DIRECTORY, READ, &dir));
    for (u32 i = 0; i < ENTRIES; i++) {
        name[0] = 'e';
        name[1] = (char)('0' + i / 100);
        name[2] = (char)('0' + i / 10 % 10);
        name[3] = (char)('0' + i % 10);
        name[4] = '\0';
        need("fill", i % 2 == 0 ? make_dir(dir, name) : try_open(dir, 0, name, CREATE, WRITE));
    }
    list_with("list at once", dir, 8192);
    list_with("list in a buffer of a few entries", dir, 100);
    list_with("list an entry at a time", dir, 28);
    list_with("list in a buffer that cuts entries", dir, 61);
    expect("list into nothing", raw_fd_readdir(dir, P(small), 0, 0, P(&used)), 0);
    expect_number("uses nothing", used, 0);
    expect("list into half an entry", raw_fd_readdir(dir, P(small), 10, 0, P(&used)), 0);
    expect_number("fills it", used, 10);
    expect("list from past the end", raw_fd_readdir(dir, P(small), sizeof small, 1000, P(&used)), 0);
    expect_number("is the end", used, 0);
    expect("list from the last cookie there is", raw_fd_readdir(dir, P(small), sizeof small, UINT64_MAX, P(&used)), 0);
    expect_number("is the end", used, 0);
    __wasi_dirent_t entry;
    need("list", raw_fd_readdir(dir, P(small), sizeof small, 0, P(&used)));
    memcpy(&entry, small, sizeof entry);
    expect_number("a directory comes first", entry.d_type, __WASI_FILETYPE_DIRECTORY);
    need("make", make_dir(dir, "empty"));
    u32 empty;
    need("open", open_at(dir, "empty", DIRECTORY, READ, &empty));
    need("list", raw_fd_readdir(empty, P(small), sizeof small, 0, P(&used)));
    expect_number("an empty directory has itself and its parent", used, 2 * sizeof entry + 3);
    expect("remove it while it is listed", remove_dir(dir, "empty"), 0);
    expect("list what is gone", raw_fd_readdir(empty, P(small), sizeof small, 0, P(&used)), 0);
    need("close", raw_fd_close(empty));
    put_file(DATA, "plain", "");
    u32 file;
    need("open", open_at(DATA, "plain", 0, READ, &file));
    expect("list a file", raw_fd_readdir(file, P(small), sizeof small, 0, P(&used)), __WASI_ERRNO_BADF);
    need("close", raw_fd_close(file));
    need("close", raw_fd_close(dir));
}

static void check_renaming(void)
{
    u32 dir, fd, got;
    char bytes[16];
    need("make", make_dir(DATA, "from"));
    need("make", make_dir(DATA, "to"));
    put_file(DATA, "from/file", "one");
    put_file(DATA, "to/other", "two");
    need("open", open_at(DATA, "to", DIRECTORY, READ, &dir));
    need("open", open_at(DATA, "from/file", 0, READ, &fd));
    expect("rename into another directory", rename_at(DATA, "from/file", dir, "file"), 0);
    expect("it is not where it was", try_open(DATA, 0, "from/file", 0, READ), __WASI_ERRNO_NOENT);
    expect_file("it is where it should be", DATA, "to/file", "one");
    expect("what was open stays open", read_fd(fd, bytes, sizeof bytes, &got), 0);
    expect_bytes("and is the same", bytes, got, "one");
    expect("rename over a file", rename_at(dir, "file", dir, "other"), 0);
    expect_file("it takes its place", dir, "other", "one");
    expect("rename to itself", rename_at(dir, "other", dir, "other"), 0);
    expect("rename what is not there", rename_at(dir, "no", dir, "x"), __WASI_ERRNO_NOENT);
    expect("rename a file over a directory", rename_at(dir, "other", DATA, "from"), __WASI_ERRNO_ISDIR);
    expect("rename a directory over a file", rename_at(DATA, "from", dir, "other"), __WASI_ERRNO_NOTDIR);
    expect("rename a directory over a full one", rename_at(DATA, "from", DATA, "to"), __WASI_ERRNO_NOTEMPTY);
    expect("rename a directory into itself", rename_at(DATA, "from", DATA, "from/sub"), __WASI_ERRNO_INVAL);
    expect("rename a file to what ends in a slash", rename_at(dir, "other", dir, "x/"), __WASI_ERRNO_NOTDIR);
    expect("rename with no name", rename_at(dir, "other", dir, ""), __WASI_ERRNO_NOENT);
    need("make", make_dir(DATA, "empty"));
    expect("rename a directory over an empty one", rename_at(DATA, "to", DATA, "empty"), 0);
    expect_file("with all that is in it", DATA, "empty/other", "one");
    expect_file("and open as before", dir, "other", "one");
    need("close", raw_fd_close(dir));
    need("close", raw_fd_close(fd));
}

static void check_hard_links(void)
{
    u32 got, fd;
    __wasi_filestat_t stat, other;
    put_file(DATA, "target", "shared");
    expect("link", link_at(DATA, "target", DATA, "second"), 0);
    need("look", stat_at(DATA, 0, "target", &stat));
    need("look", stat_at(DATA, 0, "second", &other));
    expect_true("both are one", stat.ino == other.ino && stat.nlink == 2);
    need("open", open_at(DATA, "second", 0, WRITE, &fd));
    need("write", write_fd(fd, "SHARED", 6, &got));
    need("close", raw_fd_close(fd));
    expect_file("a change is seen by both names", DATA, "target", "SHARED");
    expect("link over a file", link_at(DATA, "target", DATA, "second"), __WASI_ERRNO_EXIST);
    expect("link what is not there", link_at(DATA, "no", DATA, "third"), __WASI_ERRNO_NOENT);
    expect("link a directory", link_at(DATA, "from", DATA, "third"), __WASI_ERRNO_PERM);
    expect("link with following", raw_path_link(DATA, FOLLOW, PATH("target"), DATA, PATH("third")), __WASI_ERRNO_INVAL);
    expect("unlink one", unlink_at(DATA, "target"), 0);
    expect_file("the other stays", DATA, "second", "SHARED");
}

static void check_symlinks(void)
{
    u32 got;
    char bytes[32];
    __wasi_filestat_t stat;
    put_file(DATA, "real", "content");
    expect("symlink", symlink_at("real", DATA, "soft"), 0);
    expect("symlink over a file", symlink_at("real", DATA, "soft"), __WASI_ERRNO_EXIST);
    expect("symlink to nothing", symlink_at("", DATA, "void"), __WASI_ERRNO_NOENT);
    expect("readlink", readlink_at(DATA, "soft", bytes, sizeof bytes, &got), 0);
    expect_bytes("it is the target", bytes, got, "real");
    memset(bytes, 'z', sizeof bytes);
    expect("readlink into a short buffer", readlink_at(DATA, "soft", bytes, 2, &got), 0);
    expect_true("it is cut", got == 2 && memcmp(bytes, "rez", 3) == 0);
    expect("readlink into nothing", readlink_at(DATA, "soft", bytes, 0, &got), 0);
    expect_number("it is cut to nothing", got, 0);
    expect("readlink of a file", readlink_at(DATA, "real", bytes, sizeof bytes, &got), __WASI_ERRNO_INVAL);
    expect("readlink of what is not there", readlink_at(DATA, "no", bytes, sizeof bytes, &got), __WASI_ERRNO_NOENT);
    expect("open a symlink, following", try_open(DATA, FOLLOW, "soft", 0, READ), 0);
    expect("open a symlink, not following", try_open(DATA, 0, "soft", 0, READ), __WASI_ERRNO_LOOP);
    need("look at the symlink", stat_at(DATA, 0, "soft", &stat));
    expect_number("it is a symlink", stat.filetype, __WASI_FILETYPE_SYMBOLIC_LINK);
    expect_number("its size is the target's length", stat.size, 4);
    need("look through the symlink", stat_at(DATA, FOLLOW, "soft", &stat));
    expect_number("it is a file", stat.filetype, __WASI_FILETYPE_REGULAR_FILE);
    expect("set the symlink's own time",
           raw_path_filestat_set_times(DATA, 0, PATH("soft"), 0, 1000000000, __WASI_FSTFLAGS_MTIM), 0);
    need("look", stat_at(DATA, FOLLOW, "soft", &stat));
    expect_true("the target's time is its own", stat.mtim != 1000000000);
    expect("link a symlink", link_at(DATA, "soft", DATA, "soft2"), 0);
    expect("the link is a symlink", readlink_at(DATA, "soft2", bytes, sizeof bytes, &got), 0);
    expect("symlink to a directory", symlink_at("from", DATA, "way"), 0);
    put_file(DATA, "from/inner", "inner");
    expect_file("a path goes through it", DATA, "way/inner", "inner");
    expect("remove it as a directory", remove_dir(DATA, "way"), __WASI_ERRNO_NOTDIR);
    expect("open it as a directory", try_open(DATA, FOLLOW, "way", DIRECTORY, READ), 0);
    expect("rename a symlink", rename_at(DATA, "way", DATA, "path"), 0);
    expect("unlink a symlink", unlink_at(DATA, "path"), 0);
    expect_file("the target stays", DATA, "from/inner", "inner");
    expect("symlink to what is not there", symlink_at("nowhere", DATA, "dangling"), 0);
    expect("open it", try_open(DATA, FOLLOW, "dangling", 0, READ), __WASI_ERRNO_NOENT);
    expect("create through it", try_open(DATA, FOLLOW, "dangling", CREATE, WRITE), 0);
    expect("the target was made", stat_at(DATA, 0, "nowhere", &stat), 0);
    expect("create exclusively through it", try_open(DATA, FOLLOW, "dangling", CREATE | EXCLUSIVE, WRITE),
           __WASI_ERRNO_EXIST);
    expect("make a directory through it", make_dir(DATA, "dangling"), __WASI_ERRNO_EXIST);
    expect("two steps", symlink_at("soft", DATA, "step"), 0);
    expect("are followed", try_open(DATA, FOLLOW, "step", 0, READ), 0);
    expect("dots within the folder", try_open(DATA, 0, "from/../from/./inner", 0, READ), 0);
}

int main(void)
{
    check_making();
    check_removing();
    check_listing();
    check_renaming();
    check_hard_links();
    check_symlinks();
    return finish();
}
