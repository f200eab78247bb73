/* The 46 functions of WASI preview 1 as they are imported: every address and length is a plain number, so that a
 * check can pass any value. From the published interface wasi_snapshot_preview1. */
#ifndef RAW_H
#define RAW_H

#include <wasi/api.h>

typedef uint32_t u32;
typedef uint64_t u64;

#define WASI(name, ...) \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) u32 raw_##name(__VA_ARGS__);

WASI(args_get, u32 argv, u32 bytes)
WASI(args_sizes_get, u32 count, u32 size)
WASI(environ_get, u32 environment, u32 bytes)
WASI(environ_sizes_get, u32 count, u32 size)
WASI(clock_res_get, u32 clock, u32 result)
WASI(clock_time_get, u32 clock, u64 precision, u32 result)
WASI(fd_advise, u32 fd, u64 offset, u64 length, u32 advice)
WASI(fd_allocate, u32 fd, u64 offset, u64 length)
WASI(fd_close, u32 fd)
WASI(fd_datasync, u32 fd)
WASI(fd_fdstat_get, u32 fd, u32 result)
WASI(fd_fdstat_set_flags, u32 fd, u32 flags)
WASI(fd_fdstat_set_rights, u32 fd, u64 base, u64 inheriting)
WASI(fd_filestat_get, u32 fd, u32 result)
WASI(fd_filestat_set_size, u32 fd, u64 size)
WASI(fd_filestat_set_times, u32 fd, u64 accessed, u64 modified, u32 flags)
WASI(fd_pread, u32 fd, u32 iovs, u32 count, u64 offset, u32 result)
WASI(fd_prestat_get, u32 fd, u32 result)
WASI(fd_prestat_dir_name, u32 fd, u32 path, u32 length)
WASI(fd_pwrite, u32 fd, u32 iovs, u32 count, u64 offset, u32 result)
WASI(fd_read, u32 fd, u32 iovs, u32 count, u32 result)
WASI(fd_readdir, u32 fd, u32 buffer, u32 length, u64 cookie, u32 result)
WASI(fd_renumber, u32 from, u32 to)
WASI(fd_seek, u32 fd, u64 offset, u32 whence, u32 result)
WASI(fd_sync, u32 fd)
WASI(fd_tell, u32 fd, u32 result)
WASI(fd_write, u32 fd, u32 iovs, u32 count, u32 result)
WASI(path_create_directory, u32 fd, u32 path, u32 length)
WASI(path_filestat_get, u32 fd, u32 flags, u32 path, u32 length, u32 result)
WASI(path_filestat_set_times, u32 fd, u32 flags, u32 path, u32 length, u64 accessed, u64 modified, u32 times)
WASI(path_link, u32 from, u32 flags, u32 path, u32 length, u32 to, u32 new_path, u32 new_length)
WASI(path_open, u32 fd, u32 flags, u32 path, u32 length, u32 oflags, u64 base, u64 inheriting, u32 fdflags, u32 result)
WASI(path_readlink, u32 fd, u32 path, u32 length, u32 buffer, u32 buffer_length, u32 result)
WASI(path_remove_directory, u32 fd, u32 path, u32 length)
WASI(path_rename, u32 from, u32 path, u32 length, u32 to, u32 new_path, u32 new_length)
WASI(path_symlink, u32 target, u32 target_length, u32 fd, u32 path, u32 length)
WASI(path_unlink_file, u32 fd, u32 path, u32 length)
WASI(poll_oneoff, u32 subscriptions, u32 events, u32 count, u32 result)
WASI(proc_raise, u32 signal)
WASI(sched_yield, void)
WASI(random_get, u32 buffer, u32 length)
WASI(sock_accept, u32 fd, u32 flags, u32 result)
WASI(sock_recv, u32 fd, u32 iovs, u32 count, u32 flags, u32 result, u32 result_flags)
WASI(sock_send, u32 fd, u32 iovs, u32 count, u32 flags, u32 result)
WASI(sock_shutdown, u32 fd, u32 how)

__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit"), noreturn))
void raw_proc_exit(u32 code);

/* A pointer as the number that the host sees. */
#define P(pointer) ((u32)(uintptr_t)(pointer))

#endif
