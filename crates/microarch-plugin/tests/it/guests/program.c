/* Says by itself which of its code is to be counted, see docs/microarchitecture.md. The first argument says what it does. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAGIC 0x72656d7564610001ul
static void tell_range(const void *start, unsigned long length) { syscall(SYS_getpid, MAGIC, 1ul, start, length); }
static void tell_begin(void) { syscall(SYS_getpid, MAGIC, 2ul, 0ul, 0ul); }
static void tell_end(void) { syscall(SYS_getpid, MAGIC, 3ul, 0ul, 0ul); }

/* Three instructions, of which one stores and one (the return, on x86-64 only) loads. */
void function(long *where);
extern const char function_end[];
#if defined(__x86_64__)
__asm__(".globl function, function_end\nfunction: mov %rdi, (%rdi)\n nop\n ret\nfunction_end:\n");
#else
__asm__(".globl function, function_end\nfunction: str x0, [x0]\n nop\n ret\nfunction_end:\n");
#endif
static void tell_function(void) { tell_range((const void *)function, (unsigned long)(function_end - (const char *)function)); }

static void call(int times) {
    long where;
    for (int i = 0; i < times; i++) function(&where);
}

static void windows(void) {
    tell_function();
    call(5);
    tell_begin();
    call(10);
    tell_end();
    call(7);
    tell_begin();
    call(1);
    tell_end();
}

static pthread_barrier_t all_here;
static void *thread(void *times) {
    pthread_barrier_wait(&all_here);
    call((int)(long)times);
    pthread_barrier_wait(&all_here);
    return NULL;
}

static void threads(void) {
    pthread_t ids[4];
    pthread_barrier_init(&all_here, NULL, 4);
    tell_function();
    tell_begin();
    for (long i = 0; i < 4; i++) pthread_create(&ids[i], NULL, thread, (void *)(100 * (i + 1)));
    for (int i = 0; i < 4; i++) pthread_join(ids[i], NULL);
}

static void forks(void) {
    tell_function();
    tell_begin();
    pid_t child = fork();
    if (child == 0) {
        call(1000);
        exit(0);
    }
    waitpid(child, NULL, 0);
    call(10);
}

#if defined(__x86_64__)
/* Code that is written at run time, twice at the same place, as just-in-time compilers do. */
static void writes_code(int tells) {
    static const unsigned char first[] = {0x90, 0xc3}, second[] = {0x90, 0x90, 0x90, 0x90, 0xc3};
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (tells) {
        tell_range(code, 4096);
        tell_begin();
    }
    for (int round = 0; round < 3; round++) {
        mprotect(code, 4096, PROT_READ | PROT_WRITE);
        if (round % 2 == 0)
            memcpy(code, first, sizeof first);
        else
            memcpy(code, second, sizeof second);
        mprotect(code, 4096, PROT_READ | PROT_EXEC);
        for (int i = 0; i < 10; i++) ((void (*)(void))code)();
    }
}

/* Code in memory that can be executed from the beginning. */
static void maps_code(void) {
    static const unsigned char nop_ret[] = {0x90, 0xc3};
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, nop_ret, sizeof nop_ret);
    for (int i = 0; i < 10; i++) ((void (*)(void))code)();
}
#endif

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "windows")) windows();
    if (!strcmp(what, "threads")) threads();
    if (!strcmp(what, "forks")) forks();
#if defined(__x86_64__)
    if (!strcmp(what, "writes-code")) writes_code(1);
    if (!strcmp(what, "writes-code-silently")) writes_code(0);
    if (!strcmp(what, "maps-code")) maps_code();
#endif
    if (!strcmp(what, "unknown")) syscall(SYS_getpid, MAGIC, 9ul, 0ul, 0ul);
    if (!strcmp(what, "fails")) return 3;
    if (!strcmp(what, "hangs"))
        for (;;) pause();
    return 0;
}
