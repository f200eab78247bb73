/* Ways out of a granted folder: each must be refused, and what lies outside must stay unread and unchanged.
 * Beside the folder "data" lies a folder "canary" with a file "secret.txt"; the host has made some links in "data"
 * beforehand (guest.toml), and the guest makes others. */
#include "../check.h"

enum { DATA = FIRST_GRANT, OTHER = FIRST_GRANT + 1, LONG_BYTES = 8192 };

/* Tries everything that takes a path, with one that leads outside. `name` is a path that would be made. */
static void refuse_all(const char *path, u32 expected_open)
{
    static const char content[] = "intruder";
    char bytes[64];
    u32 got, fd;
    __wasi_filestat_t stat;
    say("# ");
    say(path);
    say("\n");
    expect("open", try_open(DATA, 0, path, 0, READ), expected_open);
    expect("open, following", try_open(DATA, FOLLOW, path, 0, READ), expected_open);
    expect("open as a directory", try_open(DATA, FOLLOW, path, DIRECTORY, READ), expected_open);
    expect("open for writing", try_open(DATA, FOLLOW, path, 0, WRITE), expected_open);
    expect("truncate", try_open(DATA, FOLLOW, path, TRUNCATE, WRITE), expected_open);
    u32 code = open_with(DATA, FOLLOW, path, CREATE, WRITE, 0, &fd);
    expect("create", code, expected_open);
    if (code == 0)
        need("write", write_fd(fd, content, sizeof content, &got));
    expect("look, following", stat_at(DATA, FOLLOW, path, &stat), expected_open);
    expect("set times, following",
           raw_path_filestat_set_times(DATA, FOLLOW, PATH(path), 0, 0, __WASI_FSTFLAGS_MTIM), expected_open);
    expect("readlink", readlink_at(DATA, path, bytes, sizeof bytes, &got), expected_open);
    expect("make a directory", make_dir(DATA, path), expected_open);
    expect("remove a directory", remove_dir(DATA, path), expected_open);
    expect("unlink", unlink_at(DATA, path), expected_open);
    expect("symlink there", symlink_at("inside", DATA, path), expected_open);
    expect("link from there", link_at(DATA, path, DATA, "stolen"), expected_open);
    expect("link to there", link_at(DATA, "inside", DATA, path), expected_open);
    expect("link into another folder from there", link_at(DATA, path, OTHER, "stolen"), expected_open);
    expect("rename from there", rename_at(DATA, path, DATA, "stolen"), expected_open);
    expect("rename to there", rename_at(DATA, "inside", DATA, path), expected_open);
    expect("rename from another folder to there", rename_at(OTHER, "thing", DATA, path), expected_open);
}

static void check_plain_paths(void)
{
    refuse_all("../canary/secret.txt", __WASI_ERRNO_PERM);
    refuse_all("/etc/passwd", __WASI_ERRNO_PERM);
    refuse_all("/proc/self/environ", __WASI_ERRNO_PERM);
    refuse_all("inner/../../canary/secret.txt", __WASI_ERRNO_PERM);
    refuse_all("./.././canary/secret.txt", __WASI_ERRNO_PERM);
    refuse_all("inner/../inner/../../canary/secret.txt", __WASI_ERRNO_PERM);
    refuse_all("//canary/secret.txt", __WASI_ERRNO_PERM);
    refuse_all("/data/inside", __WASI_ERRNO_PERM);
    refuse_all("../../../../../../../../../../../../etc/passwd", __WASI_ERRNO_PERM);
}

/* Paths whose last part is a way up: what each function says differs, but none may get there. */
static void check_way_up(void)
{
    static const char *const paths[] = {"..", "../", "../.", "inner/../..", "/", "/.", "//", "../data", "../data/inside"};
    for (u32 i = 0; i < sizeof paths / sizeof *paths; i++) {
        __wasi_filestat_t stat;
        say("# ");
        say(paths[i]);
        say("\n");
        expect("open", try_open(DATA, FOLLOW, paths[i], DIRECTORY, READ), __WASI_ERRNO_PERM);
        expect("look", stat_at(DATA, 0, paths[i], &stat), __WASI_ERRNO_PERM);
        expect("make", make_dir(DATA, paths[i]), __WASI_ERRNO_PERM);
        expect("remove", remove_dir(DATA, paths[i]), __WASI_ERRNO_PERM);
        expect("unlink", unlink_at(DATA, paths[i]), __WASI_ERRNO_PERM);
        expect("rename", rename_at(DATA, paths[i], DATA, "stolen"), __WASI_ERRNO_PERM);
    }
}

/* A directory opened below the grant is no higher ground: its parent is reached from the grant, not from it. */
static void check_opened_directory(void)
{
    u32 inner;
    need("open", open_at(DATA, "inner", DIRECTORY, READ, &inner));
    say("# from an opened directory\n");
    expect("up within the grant", try_open(inner, FOLLOW, "../inside", 0, READ), __WASI_ERRNO_PERM);
    expect("up and out", try_open(inner, FOLLOW, "../../canary/secret.txt", 0, READ), __WASI_ERRNO_PERM);
    expect("link out", link_at(DATA, "inside", inner, "../../canary/new"), __WASI_ERRNO_PERM);
    expect("rename out", rename_at(DATA, "inside", inner, "../../canary/new"), __WASI_ERRNO_PERM);
    /* Moved to the top, it still has no parent to open. */
    need("move", rename_at(DATA, "inner", OTHER, "moved"));
    expect("up after it was moved", try_open(inner, FOLLOW, "../thing", 0, READ), __WASI_ERRNO_PERM);
    expect("it is where it went", make_dir(inner, "mark"), 0);
    expect("seen from there", remove_dir(OTHER, "moved/mark"), 0);
    need("move back", rename_at(OTHER, "moved", DATA, "inner"));
    need("close", raw_fd_close(inner));
}

/* Through a link that leads outside nothing may be reached; the link itself may be looked at and removed. */
static void refuse_through(const char *link, const char *below, u32 expected)
{
    __wasi_filestat_t stat;
    u32 fd, got;
    say("# through ");
    say(link);
    say("\n");
    expect("open, following", try_open(DATA, FOLLOW, link, 0, READ), expected);
    expect("open for writing, following", try_open(DATA, FOLLOW, link, 0, WRITE), expected);
    expect("truncate, following", try_open(DATA, FOLLOW, link, TRUNCATE, WRITE), expected);
    u32 code = open_with(DATA, FOLLOW, link, CREATE, WRITE, 0, &fd);
    expect("create, following", code, expected);
    if (code == 0)
        need("write", write_fd(fd, "intruder", 8, &got));
    expect("look, following", stat_at(DATA, FOLLOW, link, &stat), expected);
    expect("set times, following",
           raw_path_filestat_set_times(DATA, FOLLOW, PATH(link), 0, 0, __WASI_FSTFLAGS_MTIM), expected);
    expect("open as a directory", try_open(DATA, FOLLOW, link, DIRECTORY, READ), expected);
    expect("open below, not following", try_open(DATA, 0, below, 0, READ), expected);
    expect("create below", try_open(DATA, 0, below, CREATE, WRITE), expected);
    expect("make a directory below", make_dir(DATA, below), expected);
    expect("remove a directory below", remove_dir(DATA, below), expected);
    expect("unlink below", unlink_at(DATA, below), expected);
    expect("symlink below", symlink_at("x", DATA, below), expected);
    expect("link from below", link_at(DATA, below, DATA, "stolen"), expected);
    expect("link to below", link_at(DATA, "inside", DATA, below), expected);
    expect("rename from below", rename_at(DATA, below, DATA, "stolen"), expected);
    expect("rename to below", rename_at(DATA, "inside", DATA, below), expected);
    expect("set times below", raw_path_filestat_set_times(DATA, 0, PATH(below), 0, 0, __WASI_FSTFLAGS_MTIM), expected);
    expect("the link itself is seen", stat_at(DATA, 0, link, &stat), 0);
    expect_number("as a link", stat.filetype, __WASI_FILETYPE_SYMBOLIC_LINK);
    expect("the link itself is not opened", try_open(DATA, 0, link, 0, READ), __WASI_ERRNO_LOOP);
}

static void check_links_of_the_host(void)
{
    refuse_through("absolute", "absolute/secret.txt", __WASI_ERRNO_PERM);
    refuse_through("relative", "relative/secret.txt", __WASI_ERRNO_PERM);
    refuse_through("etc", "etc/passwd", __WASI_ERRNO_PERM);
    refuse_through("root", "root/etc/passwd", __WASI_ERRNO_PERM);
    refuse_through("process", "process/environ", __WASI_ERRNO_PERM);
    refuse_through("parent", "parent/canary/secret.txt", __WASI_ERRNO_PERM);
    refuse_through("outside-and-back", "outside-and-back/inside", __WASI_ERRNO_PERM);
    refuse_through("dangling-outside", "dangling-outside/x", __WASI_ERRNO_PERM);
    refuse_through("chain1", "chain1/secret.txt", __WASI_ERRNO_PERM);
}

static void check_links_of_the_guest(void)
{
    say("# links that the guest makes\n");
    expect("absolute links are not made", symlink_at("/etc/passwd", DATA, "mine"), __WASI_ERRNO_PERM);
    expect("nor to the root", symlink_at("/", DATA, "mine"), __WASI_ERRNO_PERM);
    expect("relative ones are, and lead nowhere", symlink_at("../canary/secret.txt", DATA, "mine"), 0);
    expect("nested", symlink_at("../../canary", DATA, "inner/mine"), 0);
    expect("through another link", symlink_at("inner/mine/secret.txt", DATA, "mine2"), 0);
    expect("through the host's link", symlink_at("absolute/secret.txt", DATA, "mine3"), 0);
    refuse_through("mine", "mine/x", __WASI_ERRNO_PERM);
    refuse_through("inner/mine", "inner/mine/secret.txt", __WASI_ERRNO_PERM);
    refuse_through("mine2", "mine2/x", __WASI_ERRNO_PERM);
    refuse_through("mine3", "mine3/x", __WASI_ERRNO_PERM);
    say("# links that begin to lead outside when they are moved\n");
    need("make", make_dir(DATA, "deep"));
    need("make", symlink_at("../inside", DATA, "deep/up"));
    expect("within", try_open(DATA, FOLLOW, "deep/up", 0, READ), 0);
    need("move", rename_at(DATA, "deep/up", DATA, "up"));
    expect("outside", try_open(DATA, FOLLOW, "up", 0, READ), __WASI_ERRNO_PERM);
    need("link", link_at(DATA, "mine", OTHER, "mine"));
    expect("in another folder", try_open(OTHER, FOLLOW, "mine", 0, READ), __WASI_ERRNO_PERM);
}

static void check_loops(void)
{
    __wasi_filestat_t stat;
    char name[3] = "c0", target[3] = "c1";
    say("# loops\n");
    expect("the host's loop", try_open(DATA, FOLLOW, "loop", 0, READ), __WASI_ERRNO_LOOP);
    expect("below it", try_open(DATA, 0, "loop/x", 0, READ), __WASI_ERRNO_LOOP);
    expect("make a loop", symlink_at("self", DATA, "self"), 0);
    expect("open it", try_open(DATA, FOLLOW, "self", 0, READ), __WASI_ERRNO_LOOP);
    expect("create through it", try_open(DATA, FOLLOW, "self", CREATE, WRITE), __WASI_ERRNO_LOOP);
    expect("look through it", stat_at(DATA, FOLLOW, "self", &stat), __WASI_ERRNO_LOOP);
    expect("make two that swap", symlink_at("pong", DATA, "ping"), 0);
    expect("and back", symlink_at("ping", DATA, "pong"), 0);
    expect("open them", try_open(DATA, FOLLOW, "ping", 0, READ), __WASI_ERRNO_LOOP);
    expect("make one that grows", symlink_at("grow/grow", DATA, "grow"), 0);
    expect("open it", try_open(DATA, FOLLOW, "grow", 0, READ), __WASI_ERRNO_LOOP);
    /* 62 links in a row: more than any kernel follows. */
    for (u32 i = 0; i < 62; i++) {
        static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        name[1] = digits[i];
        target[1] = i + 1 < 62 ? digits[i + 1] : '-';
        need("chain", symlink_at(target, DATA, name));
    }
    put_file(DATA, "c-", "end");
    expect("a long chain", try_open(DATA, FOLLOW, "c0", 0, READ), __WASI_ERRNO_LOOP);
    expect("a short one", try_open(DATA, FOLLOW, "cV", 0, READ), 0);
}

static u32 open_bytes(const char *path, u32 length)
{
    u32 fd;
    u32 code = raw_path_open(DATA, FOLLOW, P(path), length, 0, READ, READ, 0, P(&fd));
    if (code == 0)
        need("close", raw_fd_close(fd));
    return code;
}

static void check_odd_paths(void)
{
    static char long_path[LONG_BYTES];
    __wasi_filestat_t stat;
    say("# odd paths\n");
    expect("a NUL in it", open_bytes("inside\0", 7), __WASI_ERRNO_INVAL);
    expect("a NUL before a way out", open_bytes("inside\0/../../canary/secret.txt", 31), __WASI_ERRNO_INVAL);
    expect("a NUL first", open_bytes("\0", 1), __WASI_ERRNO_INVAL);
    expect("a NUL in a new directory", raw_path_create_directory(DATA, P("a\0b"), 3), __WASI_ERRNO_INVAL);
    expect("a NUL in a link", raw_path_symlink(P("a\0b"), 3, DATA, P("link"), 4), __WASI_ERRNO_INVAL);
    expect("no UTF-8", open_bytes("\xff\xfe", 2), __WASI_ERRNO_ILSEQ);
    expect("half a character", open_bytes("gr\xc3", 3), __WASI_ERRNO_ILSEQ);
    expect("a surrogate", open_bytes("\xed\xa0\x80", 3), __WASI_ERRNO_ILSEQ);
    expect("a character in two bytes too many", open_bytes("\xc0\xae\xc0\xae/canary", 11), __WASI_ERRNO_ILSEQ);
    expect("no UTF-8 in a link", raw_path_symlink(P("\xff"), 1, DATA, P("link"), 4), __WASI_ERRNO_ILSEQ);
    expect("no UTF-8 in a new directory", raw_path_create_directory(DATA, P("\xff"), 1), __WASI_ERRNO_ILSEQ);
    expect("a backslash is a letter", make_dir(DATA, "..\\canary"), 0);
    expect("and stays inside", stat_at(DATA, 0, "..\\canary", &stat), 0);
    expect("spaces and dots are letters", make_dir(DATA, "... "), 0);
    expect("other alphabets", make_dir(DATA, "größe-大-🐎"), 0);
    memset(long_path, 'a', sizeof long_path);
    expect("a name of 255", open_bytes(long_path, 255), __WASI_ERRNO_NOENT);
    expect("a name of 256", open_bytes(long_path, 256), __WASI_ERRNO_NAMETOOLONG);
    expect("a name of 8192", open_bytes(long_path, LONG_BYTES), __WASI_ERRNO_NAMETOOLONG);
    expect("a directory of 8192", raw_path_create_directory(DATA, P(long_path), LONG_BYTES), __WASI_ERRNO_NAMETOOLONG);
    expect("unlink 8192", raw_path_unlink_file(DATA, P(long_path), LONG_BYTES), __WASI_ERRNO_NAMETOOLONG);
    expect("a link's target of 8192", raw_path_symlink(P(long_path), LONG_BYTES, DATA, P("long"), 4),
           __WASI_ERRNO_NAMETOOLONG);
    for (u32 i = 0; i < LONG_BYTES; i++)
        long_path[i] = "./"[i % 2];
    expect("a path of 4000 that goes nowhere", open_bytes(long_path, 4000), 0);
    expect("one of 8192", open_bytes(long_path, LONG_BYTES), __WASI_ERRNO_NAMETOOLONG);
    for (u32 i = 0; i < LONG_BYTES; i++)
        long_path[i] = "../"[i % 3];
    expect("up 1000 times", open_bytes(long_path, 3000), __WASI_ERRNO_PERM);
}

/* A FIFO in the folder would hold up whoever opens it until somebody else does. */
static void check_fifo(void)
{
    __wasi_filestat_t stat;
    say("# a FIFO\n");
    expect("look", stat_at(DATA, 0, "fifo", &stat), 0);
    expect("open for reading", try_open(DATA, 0, "fifo", 0, READ), __WASI_ERRNO_NOTSUP);
    expect("open for writing", try_open(DATA, FOLLOW, "fifo", 0, WRITE), __WASI_ERRNO_NOTSUP);
    expect("create", try_open(DATA, FOLLOW, "fifo", CREATE, WRITE), __WASI_ERRNO_NOTSUP);
    expect("through a link", try_open(DATA, FOLLOW, "to-fifo", 0, READ), __WASI_ERRNO_NOTSUP);
    expect("as a directory", try_open(DATA, FOLLOW, "fifo", DIRECTORY, READ), __WASI_ERRNO_NOTSUP);
    expect("rename it", rename_at(DATA, "fifo", DATA, "fifo2"), 0);
    expect("still not", try_open(DATA, 0, "fifo2", 0, READ), __WASI_ERRNO_NOTSUP);
}

int main(void)
{
    check_plain_paths();
    check_way_up();
    check_opened_directory();
    check_links_of_the_host();
    check_links_of_the_guest();
    check_loops();
    check_odd_paths();
    check_fifo();
    __wasi_filestat_t stat;
    expect("nothing was stolen", stat_at(DATA, 0, "stolen", &stat), __WASI_ERRNO_NOENT);
    expect("not into the other folder", stat_at(OTHER, 0, "stolen", &stat), __WASI_ERRNO_NOENT);
    expect_file("what was inside is there", DATA, "inside", "inside\n");
    return finish();
}
