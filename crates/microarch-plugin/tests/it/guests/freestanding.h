/* What a program without a C library needs: its beginning and its end. Without a library, what it executes does not depend on
   what the library finds out about the processor, so that two simulators can be compared exactly. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

static u64 work(void);

__attribute__((noreturn, used)) static void begin(void) {
    u64 code = work() == EXPECTED ? 0 : 1;
    __asm__ volatile("syscall" : : "a"(231), "D"(code) : "rcx", "r11", "memory");
    __builtin_unreachable();
}

/* A stack of its own, so that it lies at the same address whatever the program was started by. */
__attribute__((used, aligned(4096))) static u8 stack[65536];
__asm__(".globl _start\n_start: xor %ebp, %ebp\n lea stack+65536(%rip), %rsp\n call begin\n");
