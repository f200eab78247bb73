/* The socket functions on descriptors that are no sockets, which in WASI preview 1 no guest can get by itself. */
#include "../check.h"

static u32 accept_on(u32 fd)
{
    u32 made;
    return raw_sock_accept(fd, 0, P(&made));
}

static u32 receive_on(u32 fd)
{
    uint8_t byte;
    __wasi_iovec_t part = {&byte, 1};
    u32 got, flags;
    return raw_sock_recv(fd, P(&part), 1, 0, P(&got), P(&flags));
}

static u32 send_on(u32 fd)
{
    __wasi_ciovec_t part = {(const uint8_t *)"x", 1};
    u32 done;
    return raw_sock_send(fd, P(&part), 1, 0, P(&done));
}

static u32 shut_down(u32 fd)
{
    return raw_sock_shutdown(fd, __WASI_SDFLAGS_RD | __WASI_SDFLAGS_WR);
}

static void check(const char *what, u32 fd, u32 expected)
{
    say("# ");
    say(what);
    say("\n");
    expect("sock_accept", accept_on(fd), expected);
    expect("sock_recv", receive_on(fd), expected);
    expect("sock_send", send_on(fd), expected);
    expect("sock_shutdown", shut_down(fd), expected);
}

int main(void)
{
    u32 file, other;
    need("open a file", open_at(FIRST_GRANT, "file", CREATE, READ | WRITE, &file));
    check("standard input", 0, __WASI_ERRNO_NOTSOCK);
    check("standard output", 1, __WASI_ERRNO_NOTSOCK);
    check("a folder", FIRST_GRANT, __WASI_ERRNO_NOTSOCK);
    check("a file", file, __WASI_ERRNO_NOTSOCK);
    check("nothing", 77, __WASI_ERRNO_BADF);
    check("the highest number", UINT32_MAX, __WASI_ERRNO_BADF);
    expect("sock_accept with unknown flags", raw_sock_accept(file, 0x8000, P(&other)), __WASI_ERRNO_INVAL);
    expect("sock_recv with unknown flags", raw_sock_recv(file, 0, 0, 0x8000, P(&other), P(&other)), __WASI_ERRNO_INVAL);
    expect("sock_send, which knows no flags", raw_sock_send(file, 0, 0, 0x8000, P(&other)), __WASI_ERRNO_NOTSOCK);
    expect("sock_shutdown with unknown flags", raw_sock_shutdown(file, 0x80), __WASI_ERRNO_INVAL);
    __wasi_filestat_t stat;
    need("look at the file", raw_fd_filestat_get(file, P(&stat)));
    expect_number("nothing was sent into the file", stat.size, 0);
    return finish();
}
