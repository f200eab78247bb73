# A loop of which every count is known: see tests/it/exact.rs.
        .globl  _start, function, function_end
_start: mov     $1000, %ecx
again:  mov     words(%rip), %rax
        add     $1, %rax
        mov     %rax, words(%rip)
        addq    $1, words+8(%rip)
        test    $1, %cl
        je      even
        nop
even:   call    function
        dec     %ecx
        jnz     again
        lea     words(%rip), %rsi
        lea     words+64(%rip), %rdi
        mov     $64, %ecx
        rep movsb
        mov     $231, %eax
        xor     %edi, %edi
        syscall
function:
        movups  words+16(%rip), %xmm0
        ret
function_end:
        .bss
        .balign 64
words:  .skip   128
